"""Classifiers that an augmented one must beat: linear, read off principal components."""
