"""Draws become volumes: a stream from a generator to a synthetic CAPS on disk."""
