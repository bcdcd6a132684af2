"""Export of checkpoints to verified packages: ONNX, exact rewrites, precision variants."""
