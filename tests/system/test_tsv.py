"""Tables as people really have them: every line a row, whatever wrote the file."""

import logging

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuroaug.errors import InputError
from neuroaug.system.files import read_tsv, write_tsv

HEADER = "participant_id\tgroup\tcomment"
ROWS = ["sub-01\tHC\tfirst", "sub-02\tMDD\tsecond", "sub-03\tHC\tn/a"]


def read(path, content, **options):
    file = path / "t.tsv"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_tsv(file, **options)


def table(*rows, end="\n"):
    return end.join([HEADER, *(rows or ROWS)]) + end


cells = st.text(
    st.characters(blacklist_categories=("Cc", "Cs"), blacklist_characters="\t"), min_size=1
)


@given(comments=st.lists(cells.filter(str.strip) | st.just('"'), min_size=2, max_size=6))
def test_every_line_is_a_row_whatever_its_cells_hold(tmp_path_factory, comments):
    rows = [f"sub-{i}\tHC\t{comment}" for i, comment in enumerate(comments)]
    found = read(tmp_path_factory.mktemp("t"), table(*rows, "sub-x\tMDD\tplain"))
    assert list(found["participant_id"]) == [*(f"sub-{i}" for i in range(len(comments))), "sub-x"]
    assert list(found["group"]) == ["HC"] * len(comments) + ["MDD"]


def test_rows_between_two_stray_quotes_stay(tmp_path):
    found = read(tmp_path, table('sub-01\tHC\t"tall', "sub-02\tMDD\tx", 'sub-03\tHC\t"small'))
    assert list(found["group"]) == ["HC", "MDD", "HC"]
    assert list(found["comment"]) == ['"tall', "x", '"small']


@pytest.mark.parametrize("quoted_numbers", [True, False])
def test_a_table_quoted_throughout_is_read_without_quotes_and_that_is_said(
    tmp_path, caplog, quoted_numbers
):
    age = '"70"' if quoted_numbers else "70"
    content = f'"participant_id"\t"age"\t"note"\n"sub-01"\t{age}\t"5"" tall"\n"sub-02"\tn/a\tNA\n'
    with caplog.at_level(logging.WARNING):
        found = read(tmp_path, content)
    assert list(found.columns) == ["participant_id", "age", "note"]
    assert list(found["participant_id"]) == ["sub-01", "sub-02"]
    assert found["age"][0] == "70"
    assert found["note"][0] == '5" tall'
    assert "double quotes throughout" in caplog.text


ENCODED = {
    "utf-8": lambda text: text.encode(),
    "utf-8 with a mark": lambda text: text.encode("utf-8-sig"),
    "utf-16": lambda text: text.encode("utf-16"),
    "utf-16, big end first": lambda text: b"\xfe\xff" + text.encode("utf-16-be"),
    "latin-1": lambda text: text.encode("latin-1"),
}


@pytest.mark.parametrize("encoding", ENCODED)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("trailing", ["", "\t", "\t\t"])
def test_encodings_line_ends_and_trailing_tabs_are_read(tmp_path, encoding, end, trailing):
    rows = [HEADER, "sub-01\tHC\té", "sub-02\tMDD\tx", ""]
    content = end.join(row + trailing if row else "" for row in rows)
    found = read(tmp_path, ENCODED[encoding](content), required=["participant_id"])
    assert list(found.columns) == HEADER.split("\t")
    assert found.to_numpy().tolist() == [["sub-01", "HC", "é"], ["sub-02", "MDD", "x"]]


@pytest.mark.parametrize("encoding", ENCODED)
@pytest.mark.parametrize(("separator", "called"), [(",", "commas"), (";", "semicolons")])
def test_other_separators_are_refused_by_name(tmp_path, encoding, separator, called):
    content = ENCODED[encoding](table().replace("\t", separator))
    if encoding.startswith("utf-16"):  # no tab in it, but line ends
        assert b"\n" in content
    with pytest.raises(InputError, match=f"separated by {called}.*tab-separated"):
        read(tmp_path, content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a\tage\tAge\n1\t2\t3\n", "columns 'age' and 'Age' are one name"),
        ("a\tage_bl\tAge BL\n1\t2\t3\n", "columns 'age_bl' and 'Age BL' are one name"),
        ("a\tage\t age \n1\t2\t3\n", "column 'age' stands twice"),
        ("a\tb\n1\n", "line 2 has 1 cell, its header 2"),
        ("a\tb\n1\t2\n\n1\t2\t3\n", "line 4 has 3 cells, its header 2"),
        (b"a\tb\n1\x00\t2\n", "NUL byte in line 2"),
        ("a\tb\n1\t2\n".encode("utf-16-le"), "NUL byte"),
        (b"\x1f\x8b\x08garbage\x03", "not readable as a tab-separated table"),
        ("", "empty"),
        ("participant_id group\nsub-1 HC\n", "no tab in its header"),
        ('"a"\t"b"\n"1\t"2"\n', "line 2 has a single one"),
    ],
)
def test_what_is_no_table_is_refused_with_its_line(tmp_path, content, message):
    with pytest.raises(InputError, match=message) as error:
        read(tmp_path, content)
    assert "t.tsv" in str(error.value)
    assert "\n" not in str(error.value)


def test_blank_lines_are_no_rows_and_cells_lose_blanks_round_them(tmp_path):
    found = read(tmp_path, "a\tb\n\n  1 \t n/a\n\t\n2\t\n")
    assert list(found["a"]) == ["1", "2"]
    assert found["b"].isna().all()


@given(values=st.lists(st.sampled_from(['"', 'a"b', "a\tb", "a\nb", "é", "x"]), min_size=1))
def test_what_is_written_is_read_again(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("t") / "t.tsv"
    write_tsv(path, pd.DataFrame({"name": values, "n": range(len(values))}))
    again = read_tsv(path)
    assert list(again["name"]) == [" ".join(value.split()) for value in values]
