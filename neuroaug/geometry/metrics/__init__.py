"""Riemannian metrics of latent spaces, and their fast forms for many chains at once."""
