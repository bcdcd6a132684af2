"""DICOM files become series, and the chosen series becomes a scan."""
