"""Tensor operations that the model is built on.  They know nothing of the rest of the package."""
