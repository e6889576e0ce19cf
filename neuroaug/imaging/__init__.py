"""Images on disk: NIfTI files, grids, intensities, the names of BIDS and CAPS, a cached cohort.

Importing this package loads neither torch nor ANTs.
"""
