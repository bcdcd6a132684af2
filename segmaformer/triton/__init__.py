"""Packages behind NVIDIA's Triton Inference Server."""
