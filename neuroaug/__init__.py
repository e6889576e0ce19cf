"""Generative data augmentation for small 3D brain MRI cohorts (geometry-aware VAE)."""

__version__ = "0.1.0"
