"""A node that takes DICOM series from others and sends their segmentations back."""
