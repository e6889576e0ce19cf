"""A raw scan becomes a volume that a network can read.

Importing this package loads neither torch nor ANTs.
"""
