"""Markov chains on a metric's density: transitions, tuning, diagnostics."""
