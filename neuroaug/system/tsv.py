"""Tab-separated tables as people really have them, read as text: every line is one row.

BIDS tables have no quoting: a quote character is a character like any other. What a spreadsheet or
R writes instead (quotes round every cell, commas, another encoding) is recognised, and read or
refused by its name.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from neuroaug.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

MISSING = frozenset({"", "n/a"})
# The longest first: UTF-32's mark begins as UTF-16's does.
_MARKS = (
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
_LINE_END = re.compile(r"\r\n|\r|\n")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")
_OTHER_SEPARATORS = {",": "commas", ";": "semicolons"}
_AS_TABS = "save it as tab-separated text"


def column_key(name: str) -> str:
    """Key that spellings of one column share: case, and blanks for underscores, do not count.

    Examples
    --------
    >>> column_key(" Age  BL "), column_key("age_bl")
    ('age_bl', 'age_bl')
    """
    return "_".join(name.casefold().split())


def parse_table(
    content: bytes,
    path: Path,
    required: Iterable[str] = (),
    *,
    any_case: bool = False,
    lines: bool = False,
) -> pd.DataFrame:
    """Read a tab-separated table, all columns as strings, ``n/a`` and empty as missing.

    Every line is one row: a quote character begins nothing. Cells and names lose blanks round them.
    A table whose header, or a column, stands in double quotes throughout is read without them, and
    that is logged; so is text that is Latin-1 instead of UTF-8. UTF-8 and UTF-16 with a byte order
    mark, all kinds of line ends, blank lines, and empty columns at the end are read.

    Parameters
    ----------
    content : bytes
        Content of the file.
    path : Path
        Its name, for messages.
    required : iterable of str
        Columns that must be present.
    any_case : bool
        Whether a column that differs from a required one by case or blanks only is that one.
    lines : bool
        Whether to keep the line of each row, as ``table.attrs["lines"]``, for messages.

    Raises
    ------
    InputError
        If it is no text, or separated by something else; if a column stands twice (see
        `column_key`), or is lacking (the columns found are named); if a row has more or fewer
        cells than the header (its line is named).
    """
    import numpy as np
    import pandas as pd

    written = [
        (number, [cell.strip() for cell in line.split("\t")])
        for number, line in enumerate(_LINE_END.split(_decode(content, path)), 1)
        if line.strip()
    ]
    if not written:
        raise InputError(f"{path}: not readable as a tab-separated table (it is empty)")
    names, rows = _rectangle(written, path)
    names, columns = _unquoted(names, rows, path)
    names = _named(names, tuple(required), path, any_case=any_case)
    values = {
        name: np.array([np.nan if v in MISSING else v for v in column], dtype=object)
        for name, column in zip(names, columns, strict=True)
    }
    table = pd.DataFrame(values, columns=names, dtype=object)
    if lines:
        table.attrs["lines"] = [number for number, _ in rows]
    return table


def parse_header(content: bytes, path: Path) -> list[str]:
    """Names of the columns of a table, whatever its rows are like; none where it is no text."""
    try:
        text = _decode(content, path)
    except InputError:
        return []
    first = next((line for line in _LINE_END.split(text) if line.strip()), "")
    return [_unquote(cell.strip()) for cell in first.split("\t")]


def _decode(content: bytes, path: Path) -> str:
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError:
        if encoding != "utf-8":
            raise InputError(
                f"{path}: begins as {encoding.upper()} but is not; save it as UTF-8"
            ) from None
        text = content.decode("latin-1")
        if not _CONTROL.search(text):
            log.warning("%s: not UTF-8; read as Latin-1, check names with accents", path)
    if found := _CONTROL.search(text):
        line = len(_LINE_END.split(text[: found.start()]))
        what = "a NUL byte" if found[0] == "\0" else "a control character"
        if content.count(b"\0") > len(content) // 4:
            what = "UTF-16 without the mark that says so, by its NUL bytes, the first"
        advice = "save it as UTF-8 text"
        raise InputError(
            f"{path}: not readable as a tab-separated table ({what} in line {line}); {advice}"
        )
    if encoding not in ("utf-8", "utf-8-sig") and not re.search(r"[\t\r\n]", text):
        # Any two bytes are a character of UTF-16: what begins with its mark alone is no text.
        raise InputError(
            f"{path}: not readable as a tab-separated table ({encoding.upper()}, without a tab)"
        )
    return text.removeprefix("\ufeff")


def _rectangle(
    lines: Sequence[tuple[int, list[str]]], path: Path
) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Header and rows of equal length; empty columns at the end belong to nobody."""
    (_, header), rows = lines[0], lines[1:]
    names = list(header)
    while len(names) > 1 and not names[-1] and not any(_beyond(row, len(names)) for _, row in rows):
        names.pop()
    if len(names) == 1:
        for separator, called in _OTHER_SEPARATORS.items():
            if separator in names[0]:
                raise InputError(
                    f"{path}: separated by {called}, where tabs are expected; {_AS_TABS}"
                )
        if len(names[0].split()) > 1:
            raise InputError(f"{path}: no tab in its header '{names[0]}'; {_AS_TABS}")
    even = []
    for number, row in rows:
        if len(row) > len(names) and any(row[len(names) :]):
            raise InputError(
                f"{path}: line {number} has {_cells(len(row))}, its header {len(names)}; "
                "correct the tabs of that line"
            )
        if len(row) < len(names):
            raise InputError(
                f"{path}: line {number} has {_cells(len(row))}, its header {len(names)}; "
                "write n/a for what is missing"
            )
        if any(row):
            even.append((number, row[: len(names)]))
    return names, even


def _beyond(row: Sequence[str], n: int) -> bool:
    """Whether a row has anything in its `n`-th cell."""
    return len(row) >= n and row[n - 1] != ""


def _cells(n: int) -> str:
    return f"{n} cell{'s' if n != 1 else ''}"


def _is_quoted(cell: str) -> bool:
    return len(cell) >= 2 and cell[0] == cell[-1] == '"' and '"' not in cell[1:-1].replace('""', "")


def _unquote(cell: str) -> str:
    return cell[1:-1].replace('""', '"').strip() if _is_quoted(cell) else cell


def _unquoted(
    names: list[str], rows: Sequence[tuple[int, list[str]]], path: Path
) -> tuple[list[str], list[list[str]]]:
    """Columns without the quotes that stand round all of their cells."""
    columns = [[row[i] for _, row in rows] for i in range(len(names))]
    quoted_header = all(map(_is_quoted, names))
    odd = [n for n, row in rows if any(cell.count('"') % 2 for cell in row)]
    if odd and quoted_header:
        raise InputError(
            f"{path}: quotes round its cells, but line {odd[0]} has a single one; "
            f"{_AS_TABS} without quotes"
        )
    taken = []
    for i, column in enumerate(columns):
        given = [cell for cell in column if cell not in MISSING]
        # R and pandas quote text and leave numbers; a single quoted cell is a value of its own.
        if (quoted_header and any(map(_is_quoted, given))) or (
            given and all(map(_is_quoted, given))
        ):
            columns[i] = [_unquote(cell) for cell in column]
            taken.append(_unquote(names[i]))
    if quoted_header or taken:
        what = "table" if quoted_header else f"column(s) {', '.join(taken)}"
        log.warning("%s: %s in double quotes throughout; read without them", path, what)
    return ([_unquote(name) for name in names] if quoted_header else names), columns


def _named(
    names: Sequence[str], required: Sequence[str], path: Path, *, any_case: bool
) -> list[str]:
    """Names of the columns: each once, the required ones as they are asked for."""
    asked = {column_key(name): name for name in required if any_case}
    known: dict[str, str] = {}
    result = []
    for i, name in enumerate(names):
        written = name or f"column {i + 1}"
        other = known.setdefault(column_key(written), written)
        if len(known) <= i:
            raise InputError(
                f"{path}: columns '{other}' and '{written}' are one name; keep one of them"
                if other != written
                else f"{path}: column '{written}' stands twice; keep one of them"
            )
        result.append(asked.get(column_key(written), written))
    missing = [name for name in required if name not in result]
    if missing:
        found = ", ".join(result)
        raise InputError(f"{path}: column(s) {', '.join(missing)} missing; found {found}")
    return result
