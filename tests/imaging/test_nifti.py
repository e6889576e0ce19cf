"""A scan is read as nibabel would, or refused in one clear line."""

import gzip
import os
import zlib

import nibabel as nib
import numpy as np
import pytest

from neuroaug.errors import InputError
from neuroaug.imaging.nifti import inspect_volume, read_volume, write_volume

SHAPE = (9, 10, 12)


@pytest.fixture
def data():
    return np.random.default_rng(0).normal(100, 20, SHAPE).astype(np.float32)


def save(path, data, affine=None, kind=nib.Nifti1Image):
    nib.save(kind(data, np.diag([2.0, 2.0, 2.5, 1.0]) if affine is None else affine), path)
    return path


def message_of(action, path):
    """The one line in which a file is refused, empty where it is not."""
    try:
        action(path)
    except InputError as error:
        return str(error)
    return ""


def is_refused(path, reason):
    """Whether reading and inspecting refuse the file in the same single line, which names it and
    the reason.
    """
    read, inspected = message_of(read_volume, path), message_of(inspect_volume, path)
    assert read == inspected
    return reason in read and read.startswith(f"{path}: ") and "\n" not in read


@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_reads_what_nibabel_reads(tmp_path, data, name, dtype, kind):
    path = save(tmp_path / name, data.astype(dtype), kind=kind)
    volume = read_volume(path)
    reference = nib.load(path)
    np.testing.assert_allclose(volume.data, reference.get_fdata(), rtol=1e-6)
    np.testing.assert_array_equal(volume.affine, reference.affine)
    assert volume.data.dtype == np.float32
    assert volume.notes == ()


def test_big_endian(tmp_path, data):
    image = nib.Nifti1Image(data, np.eye(4), nib.Nifti1Header(endianness=">"))
    nib.save(image, tmp_path / "scan.nii.gz")
    np.testing.assert_array_equal(read_volume(tmp_path / "scan.nii.gz").data, data)


def test_scale_factor_is_applied(tmp_path, data):
    image = nib.Nifti1Image(data.astype(np.int16), np.eye(4))
    image.header.set_data_dtype(np.int16)
    nib.save(image, tmp_path / "scan.nii")
    raw = bytearray((tmp_path / "scan.nii").read_bytes())
    raw[112:120] = np.array([0.25, -7.0], "<f4").tobytes()  # scl_slope, scl_inter
    (tmp_path / "scan.nii").write_bytes(raw)
    volume = read_volume(tmp_path / "scan.nii")
    np.testing.assert_allclose(volume.data, data.astype(np.int16) * 0.25 - 7.0, rtol=1e-6)


def test_a_trailing_axis_of_one_is_fine(tmp_path, data):
    path = save(tmp_path / "scan.nii.gz", data[..., None])
    np.testing.assert_array_equal(read_volume(path).data, data)


@pytest.mark.parametrize("codes", ["LAS", "PSR", "RPI", "ASL"])
def test_axes_are_described_by_the_affine(tmp_path, data, codes):
    affine = np.diag([1.0, 1.5, 2.0, 1.0])
    image = nib.Nifti1Image(data, affine)
    turn = nib.orientations.ornt_transform(
        nib.orientations.io_orientation(affine), nib.orientations.axcodes2ornt(tuple(codes))
    )
    nib.save(image.as_reoriented(turn), tmp_path / "scan.nii.gz")
    volume = read_volume(tmp_path / "scan.nii.gz")
    assert "".join(nib.aff2axcodes(volume.affine)) == codes
    back = nib.as_closest_canonical(nib.Nifti1Image(volume.data, volume.affine))
    np.testing.assert_array_equal(back.get_fdata(), data)


def test_truncated_gzip(tmp_path, data):
    path = save(tmp_path / "scan.nii.gz", data)
    whole = path.read_bytes()
    for keep in (
        20,
        len(whole) // 2,
        len(whole) - 6,
    ):  # the last: voxels are whole, the checksum is not
        path.write_bytes(whole[:keep])
        assert is_refused(path, "truncated gzip")


def test_corrupt_gzip(tmp_path, data):
    path = save(tmp_path / "scan.nii.gz", data)
    broken = bytearray(path.read_bytes())
    broken[-5] ^= 0xFF
    path.write_bytes(broken)
    assert is_refused(path, "corrupt gzip")


def test_every_corruption_that_zlib_finds_is_refused_and_no_other(tmp_path, data):
    """Single bytes changed, dropped and doubled all over a compressed file: the reader agrees with
    the standard's.
    """
    path = save(tmp_path / "scan.nii.gz", data)
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    for position in rng.integers(0, len(whole), 300):
        for middle in (
            bytes([whole[position] ^ (1 << rng.integers(8))]),
            b"",
            whole[position : position + 1] * 2,
        ):
            content = whole[:position] + middle + whole[position + 1 :]
            path.write_bytes(content)
            try:
                good = gzip.decompress(content) == gzip.decompress(whole)
            except (EOFError, OSError, zlib.error):
                good = False
            assert (message_of(read_volume, path) == "") == good, (position, middle)


def test_several_gzip_members_are_one_file_and_garbage_behind_them_is_refused(tmp_path, data):
    path = save(tmp_path / "scan.nii", data)
    content = path.read_bytes()
    packed = tmp_path / "scan.nii.gz"
    packed.write_bytes(gzip.compress(content[:700]) + gzip.compress(content[700:]))
    np.testing.assert_array_equal(read_volume(packed).data, data)
    packed.write_bytes(gzip.compress(content) + bytes(600))  # tapes pad with zeros
    np.testing.assert_array_equal(read_volume(packed).data, data)
    packed.write_bytes(gzip.compress(content) + b"garbage" * 9)
    assert is_refused(packed, "corrupt gzip")
    packed.write_bytes(gzip.compress(content) + b"more")
    assert is_refused(packed, "gzip")


def test_inspecting_finds_shape_affine_and_notes_as_reading_does(tmp_path, data):
    path = save(tmp_path / "scan.nii.gz", data)
    found, volume = inspect_volume(path), read_volume(path)
    assert found.shape == volume.data.shape
    np.testing.assert_array_equal(found.affine, volume.affine)
    assert found.notes == volume.notes


def test_truncated_voxels(tmp_path, data):
    path = save(tmp_path / "scan.nii", data)
    path.write_bytes(path.read_bytes()[:-100])
    assert is_refused(path, "truncated")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty file"),
        (b"hello", "not a NIfTI"),
        (b"\0" * 400, "not a NIfTI"),
        (gzip.compress(b"", mtime=0), "empty file"),
    ],
)
def test_not_a_nifti(tmp_path, content, reason):
    path = tmp_path / "scan.nii"
    path.write_bytes(content)
    assert is_refused(path, reason)


def test_plain_bytes_named_gz(tmp_path):
    path = tmp_path / "scan.nii.gz"
    path.write_bytes(b"version https://git-lfs")
    assert is_refused(path, "not compressed")


def test_absent_file_folder_and_broken_link(tmp_path):
    assert is_refused(tmp_path / "none.nii.gz", "no such file")
    (tmp_path / "folder.nii.gz").mkdir()
    assert is_refused(tmp_path / "folder.nii.gz", "a folder")
    os.symlink(tmp_path / "annex", tmp_path / "link.nii.gz")
    assert is_refused(tmp_path / "link.nii.gz", "link to a file that is not there")


@pytest.mark.parametrize("shape", [(9, 10), (9, 10, 12, 2), (9, 10, 1, 1, 3)])
def test_not_3d(tmp_path, shape):
    assert is_refused(
        save(tmp_path / "scan.nii.gz", np.random.default_rng(0).random(shape, np.float32)),
        "not a 3D",
    )


@pytest.mark.parametrize("shape", [(7, 10, 12), (9, 10, 1), (9, 2, 12)])
def test_too_few_voxels(tmp_path, shape):
    path = save(tmp_path / "scan.nii.gz", np.random.default_rng(0).random(shape, np.float32))
    assert is_refused(path, "fewer than 8 voxels")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_non_finite(tmp_path, data, bad):
    data[1, 2, 3] = bad
    assert is_refused(save(tmp_path / "scan.nii.gz", data), "1 non-finite")


def test_finite_in_float64_but_not_once_stored_as_float32(tmp_path, data):
    wide = data.astype(np.float64)
    wide[0, 0, 0] = 1e300
    assert is_refused(save(tmp_path / "scan.nii.gz", wide), "non-finite")


def test_constant(tmp_path, data):
    assert is_refused(save(tmp_path / "scan.nii.gz", np.full(SHAPE, 7, np.int16)), "constant")


def test_complex_and_colour(tmp_path, data):
    assert is_refused(save(tmp_path / "complex.nii.gz", data.astype(np.complex64)), "complex")
    colour = np.zeros(SHAPE, [("R", "u1"), ("G", "u1"), ("B", "u1")])
    assert is_refused(save(tmp_path / "colour.nii.gz", colour), "colours")


@pytest.mark.parametrize("size", [0.2, 7.0])
def test_voxel_size(tmp_path, data, size):
    assert is_refused(
        save(tmp_path / "scan.nii.gz", data, np.diag([1.0, size, 1.0, 1.0])), "voxel size"
    )


def test_voxel_sizes_at_the_limits_are_accepted(tmp_path, data):
    for size in (0.3, 6.0):
        assert (
            read_volume(
                save(tmp_path / "scan.nii.gz", data, np.diag([size, size, size, 1.0]))
            ).voxel_mm[0]
            > 0
        )


def set_sform(path, rows):
    raw = bytearray(path.read_bytes())
    raw[254:256] = np.array([1], "<i2").tobytes()
    raw[280:328] = np.asarray(rows, "<f4").tobytes()
    path.write_bytes(raw)


def test_singular_and_non_finite_affine(tmp_path, data):
    path = save(tmp_path / "scan.nii", data)
    set_sform(path, [[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0]])
    assert is_refused(path, "singular")
    set_sform(path, np.zeros((3, 4)))
    assert is_refused(path, "singular")
    set_sform(path, [[np.nan, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]])
    assert is_refused(path, "non-finite")


def test_sheared_affine(tmp_path, data):
    path = save(tmp_path / "scan.nii", data)
    set_sform(path, [[1, 0.1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]])
    assert is_refused(path, "sheared")


@pytest.mark.parametrize(
    ("field", "value"), [(108, np.nan), (108, 1e30), (292, 1e30)]
)  # vox_offset; srow_x[3]
def test_a_header_with_impossible_numbers(tmp_path, data, field, value):
    path = save(tmp_path / "scan.nii", data)
    raw = bytearray(path.read_bytes())
    raw[field : field + 4] = np.array(value, "<f4").tobytes()
    path.write_bytes(raw)
    assert is_refused(path, "voxels begin at byte" if field == 108 else "first voxel lies at")


def test_a_pipe_is_refused_without_waiting_for_a_writer(tmp_path):
    os.mkfifo(tmp_path / "scan.nii.gz")
    assert is_refused(tmp_path / "scan.nii.gz", "a pipe")


def test_a_header_that_promises_too_much_is_refused_without_reading_it(tmp_path, data):
    path = save(tmp_path / "scan.nii", data)
    raw = bytearray(path.read_bytes())
    raw[40:48] = np.array([3, 30000, 30000, 30000], "<i2").tobytes()
    path.write_bytes(raw)
    assert is_refused(path, "beyond")


def test_unknown_datatype(tmp_path, data):
    path = save(tmp_path / "scan.nii", data)
    raw = bytearray(path.read_bytes())
    raw[70:72] = np.array([999], "<i2").tobytes()
    path.write_bytes(raw)
    assert is_refused(path, "header not usable")


def test_writing_is_deterministic_and_leaves_nothing_else(tmp_path, data):
    affine = np.diag([-1.0, 1.0, 1.2, 1.0])
    affine[:3, 3] = (4, -5, 6)
    write_volume(tmp_path / "a" / "x.nii.gz", data, affine)
    write_volume(tmp_path / "b" / "y.nii.gz", data, affine)
    assert (tmp_path / "a" / "x.nii.gz").read_bytes() == (tmp_path / "b" / "y.nii.gz").read_bytes()
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["x.nii.gz"]
    volume = read_volume(tmp_path / "a" / "x.nii.gz")
    np.testing.assert_array_equal(volume.data, data)
    np.testing.assert_allclose(volume.affine, affine, atol=1e-6)
    image = nib.load(tmp_path / "a" / "x.nii.gz")
    assert image.header.get_sform(coded=True)[1] == image.header.get_qform(coded=True)[1] == 4
    np.testing.assert_allclose(image.header.get_qform(), affine, atol=1e-5)


def test_uint8_stores_the_unit_interval_within_half_a_step(tmp_path):
    data = np.random.default_rng(0).random(SHAPE).astype(np.float32)
    data.flat[:2] = 0, 1
    write_volume(tmp_path / "x.nii.gz", data, np.eye(4), "uint8")
    image = nib.load(tmp_path / "x.nii.gz")
    assert image.get_data_dtype() == np.uint8
    assert np.abs(image.get_fdata() - data).max() <= 0.5 / 255 + 1e-6
    assert image.get_fdata().max() == pytest.approx(1.0, abs=1e-6)


def test_int16_stores_any_range_within_half_a_step(tmp_path, data):
    write_volume(tmp_path / "x.nii.gz", data, np.eye(4), "int16", space="scanner")
    image = nib.load(tmp_path / "x.nii.gz")
    assert image.get_data_dtype() == np.int16
    assert np.abs(image.get_fdata() - data).max() <= np.ptp(data) / 65000


def test_what_cannot_be_stored_is_not_written(tmp_path, data):
    with pytest.raises(ValueError, match="finite"):
        write_volume(tmp_path / "x.nii.gz", np.full(SHAPE, np.nan), np.eye(4))
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        write_volume(tmp_path / "x.nii.gz", data, np.eye(4), "uint8")
    assert not list(tmp_path.iterdir())
