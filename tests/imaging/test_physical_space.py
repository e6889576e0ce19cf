"""A scan lies where ITK reads it, or is refused: against `ants.image_read` itself."""

import itertools

import ants
import nibabel as nib
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from neuroaug.errors import InputError
from neuroaug.imaging.nifti import read_volume

SHAPE = (10, 11, 12)
VOXEL = (1.0, 1.2, 0.9)
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
TURN = Rotation.from_rotvec(np.deg2rad(20) * np.array([0.3, 0.5, 0.2])).as_matrix()


def affine(mirrored=False, turn=TURN, shift=(-20, -30, 10), size=VOXEL):
    out = np.eye(4)
    out[:3, :3] = turn @ np.diag(size)
    if mirrored:
        out[:3, 0] *= -1
    out[:3, 3] = shift
    return out


def write(path, *, q_code, s_code, qform=None, sform=None, **fields):
    """A scan with these orientations; `fields` are written into the header as they are."""
    header = nib.Nifti1Header()
    header.set_data_shape(SHAPE)
    header.set_data_dtype("<i2")
    header.set_xyzt_units("mm")
    header.set_qform(affine() if qform is None else qform, 1)
    header.set_sform(affine() if sform is None else sform, 1)
    header["qform_code"], header["sform_code"] = q_code, s_code
    header["magic"], header["vox_offset"] = b"n+1", 352
    for name, value in fields.items():
        if name == "qfac":
            header["pixdim"][0] = value
        elif name == "pixdim":
            header["pixdim"][1:4] = value
        else:
            header[name] = value
    data = np.random.default_rng(0).integers(0, 99, SHAPE).astype("<i2")
    path.write_bytes(header.binaryblock + bytes(4) + data.tobytes(order="F"))
    return path


def itk(path):
    """The affine (RAS+) that ANTs reads, None where it refuses the file."""
    try:
        image = ants.image_read(str(path))
    except RuntimeError:
        return None
    out = np.eye(4)
    out[:3, :3] = np.asarray(image.direction) * np.asarray(image.spacing)
    out[:3, 3] = image.origin
    return RAS_TO_LPS @ out


def agrees(path):
    """Whether we read what ITK reads; False where we refuse (the caller says if that is right)."""
    try:
        ours = read_volume(path).affine
    except InputError:
        return False
    theirs = itk(path)
    assert theirs is not None
    np.testing.assert_allclose(ours, theirs, atol=2e-4)
    return True


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize(("q_code", "s_code"), list(itertools.product(range(5), range(5))))
def test_every_pair_of_codes(tmp_path, q_code, s_code, mirrored):
    one = affine(mirrored)
    shifted = affine(mirrored, shift=(-15, -30, 10))
    turned = affine(mirrored, turn=Rotation.from_euler("z", 5, degrees=True).as_matrix() @ TURN)
    for sform in (one, shifted, turned):
        path = write(tmp_path / "x.nii", q_code=q_code, s_code=s_code, qform=one, sform=sform)
        assert agrees(path)
        told = any("disagree" in note for note in read_volume(path).notes)
        assert told == (q_code > 0 and s_code > 0 and sform is not one)


@pytest.mark.parametrize("codes", [(1, 1), (1, 2), (2, 1), (4, 4)])
@pytest.mark.parametrize("q_is_mirrored", [False, True])
def test_mirror_images_are_refused_with_both_readings(tmp_path, codes, q_is_mirrored):
    path = write(
        tmp_path / "x.nii",
        q_code=codes[0],
        s_code=codes[1],
        qform=affine(q_is_mirrored),
        sform=affine(not q_is_mirrored),
    )
    with pytest.raises(InputError, match=r"mirror images.*sform: [RL]..,.*qform: [RL]..,"):
        read_volume(path)


def test_no_codes_is_what_itk_reads_and_said_to_be_a_guess(tmp_path):
    path = write(tmp_path / "x.nii", q_code=0, s_code=0)
    assert agrees(path)
    assert "guess" in read_volume(path).notes[0]
    # nibabel's own reading of such a header is the mirror image.
    assert np.linalg.det(nib.load(path).affine) * np.linalg.det(read_volume(path).affine) < 0


@pytest.mark.parametrize("excess", [0, 1e-8, 1e-7, 3e-7, 1e-6, 1e-5, 1e-3])
def test_a_quaternion_of_a_half_turn_rounded_to_more_than_one(tmp_path, excess):
    header = nib.Nifti1Header()
    header.set_qform(affine(turn=Rotation.from_rotvec(np.pi * np.array([0.6, 0.8, 0])).as_matrix()))
    bcd = np.array([header[f"quatern_{name}"] for name in "bcd"]).ravel()
    bcd = bcd / np.linalg.norm(bcd) * (1 + excess)
    fields = dict(zip(("quatern_b", "quatern_c", "quatern_d"), bcd, strict=True))
    assert agrees(write(tmp_path / "x.nii", q_code=1, s_code=0, **fields))


@pytest.mark.parametrize("qfac", [0, 1, -1, 0.5, -0.5, 2])
def test_the_sign_of_the_third_axis(tmp_path, qfac):
    assert agrees(write(tmp_path / "x.nii", q_code=1, s_code=0, qfac=qfac))


@pytest.mark.parametrize("codes", [(0, 1), (1, 0), (1, 1), (1, 2), (0, 0)])
def test_a_voxel_size_of_zero(tmp_path, codes):
    """1 mm, as ITK reads it, where the sform says so too; else the size is not known."""
    q_code, s_code = codes
    cube = affine(size=(1, 1, 1))
    forms = {"qform": cube, "sform": cube, "pixdim": [0, 1, 1]}
    right = write(tmp_path / "x.nii", q_code=q_code, s_code=s_code, **forms)
    by_sform = s_code > 0 and (q_code == 0 or s_code == 1)
    assert agrees(right) == by_sform
    wrong = write(tmp_path / "y.nii", q_code=q_code, s_code=s_code, pixdim=[1, 0, 0.9])
    with pytest.raises(InputError, match="pixdim"):
        read_volume(wrong)


@pytest.mark.parametrize("codes", [(0, 1), (1, 1), (0, 4)])
def test_a_voxel_size_that_contradicts_the_sform(tmp_path, codes):
    q_code, s_code = codes
    near = write(tmp_path / "x.nii", q_code=q_code, s_code=s_code, pixdim=[1.002, 1.2, 0.9])
    assert agrees(near)
    far = write(tmp_path / "y.nii", q_code=q_code, s_code=s_code, pixdim=[2, 2, 2])
    with pytest.raises(InputError, match=r"contradicts its sform.*sform: .*as ITK"):
        read_volume(far)
    with pytest.raises(InputError, match="negative voxel size"):
        read_volume(write(tmp_path / "z.nii", q_code=q_code, s_code=s_code, pixdim=[-1, 1.2, 0.9]))


def test_an_sform_of_a_template_beside_the_scanners_qform(tmp_path):
    """As SPM leaves it: a 12-parameter alignment in the sform; ITK keeps to the scanner."""
    sheared = affine(size=(1.1, 1.3, 1.0))
    sheared[:3, 0] += 0.1 * sheared[:3, 1]
    path = write(tmp_path / "x.nii", q_code=1, s_code=4, sform=sheared)
    assert agrees(path)
    assert "the qform was used" in read_volume(path).notes[0]


@pytest.mark.parametrize("shear", [1e-6, 1e-5, 1e-4, 1e-3, 1e-2])
@pytest.mark.parametrize("codes", [(0, 1), (1, 1), (1, 2)])
def test_a_slightly_sheared_sform(tmp_path, shear, codes):
    sheared = affine()
    sheared[:3, 0] += shear * sheared[:3, 1]
    path = write(tmp_path / "x.nii", q_code=codes[0], s_code=codes[1], sform=sheared)
    if itk(path) is None:  # rounding of other programs: read all the same, by the sform
        np.testing.assert_allclose(read_volume(path).affine, sheared, atol=1e-5)
    else:
        assert agrees(path)


@pytest.mark.parametrize("units", [0, 2, 5, 10, 16, 26])
def test_units_that_are_not_lengths_are_millimetres(tmp_path, units):
    assert agrees(write(tmp_path / "x.nii", q_code=1, s_code=1, xyzt_units=units))


@pytest.mark.parametrize(("units", "factor", "name"), [(1, 1e-3, "metres"), (3, 1e3, "microns")])
@pytest.mark.parametrize("codes", [(1, 0), (0, 1), (1, 1), (0, 0)])
def test_metres_and_microns(tmp_path, units, factor, name, codes):
    scaled = affine()
    scaled[:3] *= factor
    forms = {"qform": scaled, "sform": scaled, "xyzt_units": units}
    assert agrees(write(tmp_path / "x.nii", q_code=codes[0], s_code=codes[1], **forms))
    wrong = write(tmp_path / "y.nii", q_code=codes[0], s_code=codes[1], xyzt_units=units)
    with pytest.raises(InputError, match=name):
        read_volume(wrong)


def test_where_nibabel_and_itk_agree_the_numbers_are_nibabels(tmp_path):
    """So that images made by earlier versions keep their bytes."""
    for q_code, s_code in ((1, 0), (0, 2), (1, 1), (4, 4)):
        path = write(tmp_path / "x.nii", q_code=q_code, s_code=s_code)
        np.testing.assert_array_equal(read_volume(path).affine, nib.load(path).affine)
        assert read_volume(path).notes == ()
