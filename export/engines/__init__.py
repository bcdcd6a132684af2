"""TensorRT engines from a package: graphs with and without the plugin, builds, and layers."""
