"""From a package and a scan to a segmentation, without PyTorch."""
