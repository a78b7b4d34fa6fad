"""Tensor operations that the model is built on."""
