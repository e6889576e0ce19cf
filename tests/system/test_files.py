"""A file is either there whole or not there."""

import errno
import gzip

import pandas as pd
import pytest

from neuroaug.errors import InputError, ResourceError
from neuroaug.system.files import (
    atomic_path,
    cell_text,
    human_bytes,
    read_json,
    read_tsv,
    reading,
    sha256_json,
    write_json,
    write_tsv,
)


def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "a.json"
    write_json(target, {"v": 1})
    with pytest.raises(RuntimeError, match="interrupted"), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError("interrupted")
    assert read_json(target) == {"v": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_a_full_disk_is_one_clear_line(tmp_path):
    with (
        pytest.raises(ResourceError, match=r"b\.bin: the disk is full"),
        atomic_path(tmp_path / "b.bin"),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_equal_content_gives_equal_bytes(tmp_path):
    write_json(tmp_path / "a", {"x": 1, "y": [1.5, None]})
    write_json(tmp_path / "b", {"y": [1.5, None], "x": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert sha256_json({"x": 1, "y": 2}) == sha256_json({"y": 2, "x": 1})


def test_missing_values_are_written_and_read_as_bids_has_them(tmp_path):
    write_tsv(
        tmp_path / "t.tsv",
        pd.DataFrame({"participant_id": ["sub-1", "sub-2"], "age": [70.0, None]}),
    )
    assert (tmp_path / "t.tsv").read_text() == "participant_id\tage\nsub-1\t70.0\nsub-2\tn/a\n"
    table = read_tsv(tmp_path / "t.tsv")
    assert table["age"].tolist()[0] == "70.0"
    assert table["age"].isna().tolist() == [False, True]


def test_a_missing_column_is_named_with_those_found(tmp_path):
    (tmp_path / "t.tsv").write_text("participant_id\tAge\nsub-1\t70\n")
    with pytest.raises(
        InputError, match=r"t\.tsv: column\(s\) age missing; found participant_id, Age"
    ):
        read_tsv(tmp_path / "t.tsv", ["participant_id", "age"])


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00bad", b"a\tb\n\x00\t1\n"])
def test_an_unreadable_table_is_refused_by_name(tmp_path, content):
    (tmp_path / "t.tsv").write_bytes(content)
    with pytest.raises(InputError, match=r"t\.tsv: not readable"):
        read_tsv(tmp_path / "t.tsv", [])


@pytest.mark.parametrize(("read", "kind"), [(read_json, "JSON"), (read_tsv, "a tab-separated")])
def test_what_cannot_be_read_is_one_line(tmp_path, read, kind):
    with pytest.raises(InputError, match="none: no such file"):
        read(tmp_path / "none")
    with pytest.raises(InputError, match=f"a folder, where {kind}"):
        read(tmp_path)
    (tmp_path / "bad").write_bytes(b"\xff\xfe\x00bad")
    with pytest.raises(InputError, match=f"bad: not readable as {kind}"):
        read(tmp_path / "bad")


def test_a_file_that_a_broken_disk_does_not_give_is_one_line():
    with pytest.raises(InputError, match="a: cannot be read"), reading("a", "JSON"):
        raise OSError(errno.EIO, "Input/output error")
    with pytest.raises(InputError, match="a: no permission to read it"), reading("a", "JSON"):
        raise PermissionError(errno.EACCES, "Permission denied")


def test_sizes_are_told_in_decimal_units():
    assert [human_bytes(n) for n in (999, 1_536_000, 2_500_000_000)] == [
        "999 B",
        "1.5 MB",
        "2.5 GB",
    ]


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda path: None, "no such file; copy it"),
        (lambda path: path.symlink_to("nowhere"), "link to a file that is not there; copy it"),
        (lambda path: path.mkdir(), "a folder, where a list is expected; copy it"),
        (lambda path: path.write_bytes(gzip.compress(b"content")[:-9]), "truncated gzip"),
        (lambda path: path.write_bytes(b"neither"), "corrupt gzip"),
    ],
)
def test_each_way_of_not_being_read_has_its_reason(tmp_path, make, why):
    path = tmp_path / "file"
    make(path)
    with pytest.raises(InputError, match=why) as caught, reading(path, "a list", "copy it"):
        gzip.decompress(path.read_bytes())
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_any_value_becomes_the_text_of_one_cell():
    texts = [cell_text(value) for value in ("a\tb\nc", None, float("nan"), "", "sub-\udcff", 3)]
    assert texts == ["a b c", "n/a", "n/a", "n/a", "sub-\N{REPLACEMENT CHARACTER}", "3"]
