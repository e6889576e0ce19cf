"""Learning curves of a study: what its arms are worth in patients."""
