"""The steps of t1-linear, one file each; ANTs is imported inside functions."""
