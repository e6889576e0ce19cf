"""Which of several T1w images per visit is meant: the BIDS filter file, spelled as fMRIPrep's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neuroaug.errors import InputError
from neuroaug.imaging.bids import ENTITIES
from neuroaug.system.files import read_json

_IGNORED = ("datatype", "suffix", "extension")  # what a T1w query says of every T1w


def read_filter(path: str | Path) -> dict[str, Any]:
    """Read the ``t1w`` query of a BIDS filter file.

    It looks like ``{"t1w": {"acquisition": "mprage", "run": 1}}``.

    Returns
    -------
    dict
        Short entity name to a list of allowed values (strings), None for "absent", or "*" for
        "any".

    Raises
    ------
    InputError
        If the file is not such JSON, or names an entity that a T1w image does not have.
    """
    if not Path(path).is_file():
        why = "not a file" if Path(path).exists() else "no such file"
        raise InputError(f"{path}: {why}; check --bids-filter-file")
    content = read_json(path)
    if not isinstance(content, Mapping) or not isinstance(content.get("t1w"), Mapping):
        raise InputError(f'{path}: expected a query such as {{"t1w": {{"acquisition": "mprage"}}}}')
    query: dict[str, Any] = {}
    for name, value in content["t1w"].items():
        if name in _IGNORED:
            continue
        if name not in ENTITIES and name not in ENTITIES.values():
            raise InputError(f"{path}: unknown entity '{name}' (known: {', '.join(ENTITIES)})")
        short = ENTITIES.get(name, name)
        if value is None or value == "Query.NONE":
            query[short] = None
        elif value in ("*", "Query.ANY"):
            query[short] = "*"
        else:
            values = value if isinstance(value, list) else [value]
            if not all(isinstance(v, str | int) for v in values):
                raise InputError(f"{path}: '{name}' must be a value or a list of values")
            query[short] = [_bare(v) for v in values]
    return query


def _bare(value: str | int) -> str:
    """``"run-01"``, ``"01"`` and 1 are one value."""
    text = re.sub(r"^[a-z]+-", "", str(value))
    return str(int(text)) if text.isdigit() else text


def passes(entities: Mapping[str, str], query: Mapping[str, Any]) -> bool:
    """Whether a query of `read_filter` asks for an image with these entities (short names)."""
    for name, allowed in query.items():
        value = entities.get(name)
        if allowed is None or value is None:
            if allowed is not None or value is not None:
                return False
        elif allowed != "*" and _bare(value) not in allowed:
            return False
    return True
