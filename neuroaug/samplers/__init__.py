"""Samplers of latent codes, one file each.

A sampler needs a metric or the codes of the training images, a dimension and settings, and nothing
of a network: `sampler.LatentSpace` is all that it sees of a model. `latents.sample_latents` gives
latent i as a function of (model, seed, label, i) alone.
"""
