"""A raw scan becomes a volume that a network can read. Imports neither torch nor ANTs."""
