"""The networks of a generator, one family a file; `registry` has them by name."""
