"""A new study: what a folder of scans and its tables hold, and a configuration that fits them."""
