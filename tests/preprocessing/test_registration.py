"""ANTs finds a known pose, whatever the axes of the scan, and never deforms it."""

import shutil

import numpy as np
import pytest
from heads import mean_distance, pose, scan_of, small_template
from scipy import ndimage

from neuroaug.errors import InputError, StageError
from neuroaug.imaging.grid import UNCROPPED, Grid, block_mean
from neuroaug.imaging.template import load_regions, load_template, template_brain
from neuroaug.preprocessing.steps import bias, registration
from neuroaug.preprocessing.steps.bias import correct_bias, shrink_factor
from neuroaug.preprocessing.steps.itk import read_affine, single_thread, to_ants
from neuroaug.preprocessing.steps.registration import Recipe, align, arguments, read_alignment, warp

single_thread()
# The real stages on a coarse template: a second instead of a minute.
QUICK = Recipe(
    double=False, template_mm=1, shrink="2x1", smoothing_vox="0.5x0", iterations="200x100"
)


@pytest.fixture(scope="module")
def small():
    return small_template()


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setitem(registration.RECIPES, "default", QUICK)


@pytest.mark.parametrize("codes", ["RAS", "LAS", "PSR", "LIA"])
def test_a_known_pose_is_found_whatever_the_axes(small, quick, tmp_path, codes):
    known = pose((9, -6, 12), (8, -11, 6))
    data, affine = scan_of(small, known, codes)
    found = align(data, affine, small, work_dir=tmp_path)
    assert mean_distance(found.template_to_scan, known) < 1.0
    assert mean_distance(np.eye(4), known) > 15
    assert not list(tmp_path.iterdir())


def test_an_oblique_header_is_part_of_the_pose(small, quick):
    """The pose stands in the affine alone: the voxels are those of an upright head."""
    data, affine = scan_of(small, np.eye(4), "LAS")
    tilt = pose((-14, 7, 10), (-9, 12, 5))
    found = align(data, tilt @ affine, small)
    assert mean_distance(found.template_to_scan, tilt) < 1.0


def test_equal_scans_give_equal_bytes(small, quick):
    data, affine = scan_of(small, pose((5, 4, -8), (4, 6, -7)), "PSR")
    first, second = (align(data, affine, small) for _ in range(2))
    assert first.mat == second.mat


def test_double_precision_agrees_with_single(small, monkeypatch):
    """A buffer of the wrong width would crash or register noise."""
    data, affine = scan_of(small, pose((5, 4, -8), (4, 6, -7)), "RAS")
    found = []
    for double in (False, True):
        recipe = Recipe(double, 1, QUICK.shrink, QUICK.smoothing_vox, QUICK.iterations)
        monkeypatch.setitem(registration.RECIPES, "exact", recipe)
        found.append(align(data, affine, small, profile="exact").template_to_scan)
    assert mean_distance(*found) < 0.2


def test_the_command_is_that_of_synquick_affine():
    command = " ".join(arguments(registration.RECIPES["exact"], "out_", "fixed", "moving"))
    stage = (
        "--metric MI[fixed,moving,1,32,Regular,0.25] --convergence [1000x500x250x0,1e-6,10] "
        "--shrink-factors 8x4x2x1 --smoothing-sigmas 3x2x1x0vox"
    )
    assert f"--transform Rigid[0.1] {stage} --transform Affine[0.1] {stage}" in command
    for part in (
        "--float 0",
        "--winsorize-image-intensities [0.005,0.995]",
        "--use-histogram-matching 0",
        "--initial-moving-transform [fixed,moving,1]",
        "--interpolation Linear",
    ):
        assert part in command
    for profile in registration.RECIPES.values():
        assert not {"SyN", "BSpline", "Elastic"} & set(
            " ".join(arguments(profile, "o", "f", "m")).replace("[", " ").split()
        )


def test_a_deformation_is_never_accepted(small, quick, tmp_path):
    data, affine = scan_of(small, pose((2, 1, 3), (1, 2, 3)), "RAS")
    (tmp_path / "t_0GenericAffine.mat").write_bytes(align(data, affine, small).mat)
    assert read_alignment(tmp_path).mat
    (tmp_path / "t_1Warp.nii.gz").write_bytes(b"field")
    with pytest.raises(StageError, match=r"t_1Warp.nii.gz, where one affine"):
        read_alignment(tmp_path)


def test_what_deformable_ants_leaves_is_refused(small, tmp_path):
    """The engine itself, not a stand-in: its default registration is SyN, and is caught."""
    import ants

    data, affine = scan_of(small, pose((2, 1, 3), (1, 2, 3)), "RAS")
    ants.registration(
        to_ants(small.data, small.affine),
        to_ants(data, affine),
        outprefix=f"{tmp_path}/t_",
        reg_iterations=(1, 0, 0),
    )
    with pytest.raises(StageError, match="Warp"):
        read_alignment(tmp_path)


def test_a_file_that_is_no_transform(tmp_path):
    (tmp_path / "x.mat").write_bytes(b"not a transform")
    with pytest.raises(InputError, match="not a transform"):
        read_affine(tmp_path / "x.mat")


@pytest.mark.parametrize("codes", ["RAS", "LAS", "PSR"])
def test_warp_puts_every_point_where_the_transform_says(small, codes):
    """An image that holds its own world coordinate shows where each voxel was read."""
    moved = pose((9, -6, 12), (8, -11, 6))
    data, affine = scan_of(small, np.eye(4), codes)
    grid = Grid((11, 12, 13), np.diag([3.0, 4.0, 5.0, 1.0]))
    index = np.stack(np.meshgrid(*map(np.arange, data.shape), indexing="ij"), axis=-1)
    for axis in range(3):
        coordinate = (index @ affine[:3, :3].T + affine[:3, 3])[..., axis].astype(np.float32)
        seen = warp(coordinate, affine, moved, grid)
        at = (
            np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), axis=-1)
            @ grid.affine[:3, :3].T
        )
        np.testing.assert_allclose(
            seen, (at @ moved[:3, :3].T + moved[:3, 3])[..., axis], atol=1e-3
        )


def test_warp_agrees_with_ants(small, quick, tmp_path):
    import ants

    data, affine = scan_of(small, pose((5, 4, -8), (4, 6, -7)), "PSR")
    found = align(data, affine, small)
    (tmp_path / "a.mat").write_bytes(found.mat)
    grid = Grid(small.data.shape, np.array(small.affine))
    ours = warp(data, affine, found.template_to_scan, grid)
    theirs = ants.apply_transforms(
        to_ants(small.data, small.affine),
        to_ants(data, affine),
        [str(tmp_path / "a.mat")],
        interpolator="linear",
    ).numpy()
    inside = ndimage.binary_erosion(theirs > 0, iterations=2)
    assert inside.sum() > 2000
    np.testing.assert_allclose(ours[inside], theirs[inside], atol=2e-3 * float(data.max()))


def test_ants_sees_each_voxel_where_nibabel_does(small):
    import ants

    for codes in ("RAS", "LAS", "PSR"):
        data, affine = scan_of(small, np.eye(4), codes)
        affine = pose((10, 5, -20), (3, 4, 5)) @ affine
        image = to_ants(data, affine)
        index = (7, 11, 13)
        lps = np.array(ants.transform_index_to_physical_point(image, index))
        np.testing.assert_allclose(lps * [-1, -1, 1], (affine @ [*index, 1])[:3], atol=1e-3)
        assert image.numpy()[index] == data[index]


def test_n4_takes_out_a_smooth_field(monkeypatch):
    """Two tissues under a field that nearly doubles the brightness from one side to the other."""
    monkeypatch.setattr(bias, "ITERATIONS", [15] * 4)
    rng = np.random.default_rng(0)
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in (14, 17, 15)), indexing="ij")
    ball = x**2 + y**2 + z**2 < 0.9
    tissue = np.where(rng.random(ball.shape) < 0.5, 80.0, 120.0) * ball + rng.uniform(
        1, 3, ball.shape
    )
    field = np.exp(0.3 * x)
    affine = np.diag([12.0, 12.0, 12.0, 1.0])
    corrected = correct_bias((tissue * field).astype(np.float32), affine, profile="fast")
    left = np.log(corrected / tissue)[ball]
    assert left.std() < 0.3 * np.log(field[ball]).std()


def test_n4_works_on_a_grid_in_millimetres():
    assert [
        shrink_factor(profile, (1.0, 1.0, 1.0)) for profile in ("exact", "default", "fast")
    ] == [4, 6, 8]
    assert [shrink_factor("exact", (v, v, v)) for v in (0.8, 3.0)] == [4, 4]
    assert shrink_factor("default", (2.0, 2.0, 2.0)) == 3
    assert shrink_factor("default", (6.0, 6.0, 6.0)) == 1


def test_a_packaged_template_that_changed_is_refused(monkeypatch, tmp_path):
    from neuroaug.imaging import template as module

    source = module.packaged(*module._T1W[0].split("/"))
    changed = tmp_path / "template_T1w.nii.gz"
    shutil.copy(source, changed)
    changed.write_bytes(changed.read_bytes() + b"\0")
    monkeypatch.setattr(module, "packaged", lambda *parts: changed)
    load_template.cache_clear()
    with pytest.raises(InputError, match="sha256 differs"):
        load_template()
    load_template.cache_clear()


def test_templates_by_path(tmp_path):
    from neuroaug.imaging.grid import GRIDS, crop
    from neuroaug.imaging.nifti import write_volume

    full = load_template()
    write_volume(tmp_path / "full.nii.gz", full.data, UNCROPPED.affine, level=1)
    given = load_template(tmp_path / "full.nii.gz")
    assert given.name == "custom"
    np.testing.assert_array_equal(given.data, full.data)
    write_volume(tmp_path / "cropped.nii.gz", crop(full.data), GRIDS["1mm"].affine, level=1)
    assert load_template(tmp_path / "cropped.nii.gz").data.shape == GRIDS["1mm"].shape
    write_volume(
        tmp_path / "brain.nii.gz", full.data * load_regions()[1], UNCROPPED.affine, level=1
    )
    brain = load_template(tmp_path / "brain.nii.gz")
    assert (full.kind, given.kind, brain.kind) == ("head", "head", "brain")
    assert template_brain(brain) is brain
    np.testing.assert_array_equal(template_brain(given).data, brain.data)
    scalp = np.where(load_regions()[1], 0, full.data)
    write_volume(tmp_path / "scalp.nii.gz", scalp, UNCROPPED.affine, level=1)
    with pytest.raises(InputError, match="shows no brain"):
        load_template(tmp_path / "scalp.nii.gz")
    write_volume(
        tmp_path / "small.nii.gz", block_mean(full.data), UNCROPPED.halved().affine, level=1
    )
    with pytest.raises(InputError, match="not a template"):
        load_template(tmp_path / "small.nii.gz")


def test_the_packaged_template_is_symmetric_and_holds_a_head():
    template = load_template()
    head, brain = load_regions()
    assert template.data.shape == UNCROPPED.shape
    np.testing.assert_array_equal(template.data, template.data[::-1])
    assert (brain & ~head).sum() == 0
    assert 1.7e6 < brain.sum() < 2.0e6  # ml, with the fluid around it
    scalp = head & ~ndimage.binary_dilation(brain, iterations=5)
    assert (template.data[scalp] > 0.1 * template.data.max()).mean() > 0.4
