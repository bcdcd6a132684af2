"""From a checkpoint to a verified package: ONNX, exact rewrites, precision variants."""
