"""From per-image scores to measures, intervals, tests and tables."""
