"""From a package and a scan to a segmentation, without PyTorch."""

from segmaformer.runtime.package import Package
from segmaformer.runtime.predictor import Predictor
from segmaformer.runtime.segmentation import Segmentation
from segmaformer.runtime.volume import Volume

__all__ = ["Package", "Predictor", "Segmentation", "Volume"]
