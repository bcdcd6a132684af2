"""TensorRT and TensorRT-RTX: building engines and running tiles in them."""
