"""DICOM results: a segmentation object and a report of measurements."""
