"""Measured speeds (``neuroaug bench``), each beside what it is compared with."""
