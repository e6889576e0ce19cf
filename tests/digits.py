"""Real digits that every installation has (scikit-learn's, 8 x 8), as an NPZ of 28 x 28."""

from pathlib import Path

import numpy as np


def write_digits(path: Path, n_per_class: int = 60) -> Path:
    """Write digits of ten classes, labels beside them, into an NPZ; return its path."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    rows = np.concatenate([np.flatnonzero(labels == c)[:n_per_class] for c in range(10)])
    large = np.kron(images[rows].reshape(-1, 8, 8) / 16, np.ones((3, 3)))
    np.savez(path, images=np.pad(large, ((0, 0), (2, 2), (2, 2))), labels=labels[rows])
    return path
