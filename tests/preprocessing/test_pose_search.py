"""The search over orientations finds heads that a start from the centres of mass does not."""

import numpy as np
import pytest
from heads import mean_distance, pose, scan_of, small_template

from neuroaug.preprocessing.steps import registration
from neuroaug.preprocessing.steps.itk import affine_text, read_affine, single_thread
from neuroaug.preprocessing.steps.pose_search import about, climb, find_start, rotations
from neuroaug.preprocessing.steps.registration import Recipe, align

single_thread()
QUICK = Recipe(
    double=False, template_mm=1, shrink="2x1", smoothing_vox="0.5x0", iterations="200x100"
)


@pytest.fixture(scope="module")
def small():
    return small_template()


@pytest.mark.parametrize("degrees", [(0, 0, 0), (90, 0, 0), (-40, 30, 60)])
def test_a_head_is_found_in_any_orientation(small, degrees):
    """The axes are named wrongly in the header, or the head lies on its side."""
    data, affine = scan_of(small, pose((6, -5, 4), (8, -11, 6)), "LAS")
    turn = pose(degrees, (20, 10, -30))
    known = turn @ pose((6, -5, 4), (8, -11, 6))
    assert mean_distance(find_start(data, turn @ affine, small), known) < 12


def test_registration_from_the_start_found_lands_where_one_from_the_centres_of_mass_is_lost(
    small, monkeypatch
):
    monkeypatch.setitem(registration.RECIPES, "default", QUICK)
    data, affine = scan_of(small, np.eye(4), "RAS")
    turn = pose((90, 0, 0), (0, 20, 0))
    lost = align(data, turn @ affine, small)
    assert mean_distance(lost.template_to_scan, turn) > 20
    found = align(data, turn @ affine, small, start=find_start(data, turn @ affine, small))
    assert mean_distance(found.template_to_scan, turn) < 1


def test_equal_scans_give_equal_starts(small):
    data, affine = scan_of(small, pose((10, 0, 30), (8, -11, 6)), "PSR")
    np.testing.assert_array_equal(
        find_start(data, affine, small), find_start(data.copy(), affine.copy(), small)
    )


def test_the_starts_are_rotations_and_the_first_is_none():
    matrices = np.array(rotations())
    np.testing.assert_allclose(
        matrices @ matrices.transpose(0, 2, 1),
        np.broadcast_to(np.eye(3), matrices.shape),
        atol=1e-12,
    )
    np.testing.assert_allclose(np.linalg.det(matrices), 1)
    np.testing.assert_array_equal(matrices[0], np.eye(3))
    assert len(np.unique(matrices.round(6), axis=0)) == len(matrices) == 36


def test_a_transform_survives_its_text_file(tmp_path):
    matrix = pose((20, -30, 100), (5, 6, -70)) @ np.diag([1.1, 0.9, 1.05, 1])
    (tmp_path / "start.txt").write_text(affine_text(matrix))
    np.testing.assert_allclose(read_affine(tmp_path / "start.txt"), matrix, atol=1e-12)


def test_the_climb_ends_at_the_top_of_a_hill():
    top = np.array([6.0, -4, 2, 10, 0, -6, 4])
    found, before, after = climb(
        lambda p: -float(((p - top) ** 2).sum()), (8.0, 4.0, 2.0, 1.0), rounds=20
    )
    np.testing.assert_array_equal(found, top)
    assert (before, after) == (-float((top**2).sum()), 0)


def test_a_turn_about_a_point_leaves_the_point():
    centre = np.array([3.0, -20, 15])
    moved = about(centre, np.array([1.0, 2, 3, 30, -20, 10, 5]))
    np.testing.assert_allclose(
        moved[:3, :3] @ centre + moved[:3, 3], centre + np.array([1.0, 2, 3])
    )
