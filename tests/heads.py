"""Heads in known poses, made of the packaged template, and how far two transforms lie apart."""

import numpy as np
from nibabel.orientations import apply_orientation as turn_axes
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform
from scipy import ndimage
from scipy.spatial.transform import Rotation

from neuroaug.imaging.grid import UNCROPPED, block_mean
from neuroaug.imaging.template import Template, load_regions, load_template


def small_template():
    """The packaged template at 8 mm."""
    data, grid = load_template().data, UNCROPPED
    for _ in range(3):
        data, grid = block_mean(data), grid.halved()
    return Template("small", data, np.array(grid.affine), "none")


def pose(degrees, shift):
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    matrix[:3, 3] = shift
    return matrix


def scan_of(template, moved, codes, voxel=(6.0, 5.0, 5.5)):
    """Scan the template's head after a motion, axes stored as `codes`: data, affine."""
    low, high = np.array([-105, -140, -95.0]), np.array([105, 110, 125.0])
    grid = np.diag([*voxel, 1.0])
    grid[:3, 3] = low
    shape = np.floor((high - low) / voxel).astype(int)
    matrix = np.linalg.inv(template.affine) @ np.linalg.inv(moved) @ grid
    data = ndimage.affine_transform(
        template.data, matrix[:3, :3], matrix[:3, 3], output_shape=tuple(shape), order=1
    )
    turn = ornt_transform(io_orientation(grid), axcodes2ornt(tuple(codes)))
    return np.ascontiguousarray(turn_axes(data, turn), dtype=np.float32), grid @ inv_ornt_aff(
        turn, data.shape
    )


def brain_points(n=2000):
    points = np.argwhere(load_regions()[1])[:: 1876000 // n]
    return np.c_[
        points @ UNCROPPED.affine[:3, :3].T + UNCROPPED.affine[:3, 3], np.ones(len(points))
    ]


def mean_distance(first, second):
    return np.linalg.norm((brain_points() @ (first - second).T)[:, :3], axis=1).mean()
