"""What the tests of structure read: the repository's files, and the words in them."""

import ast
import io
import re
import subprocess
import tokenize
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROGRAMS = ("neuroaug", "pipelines", "scripts")
"""Folders whose modules make up the program."""


@cache
def files():
    """Every file of the repository that git keeps or would keep, relative to its root."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=False,
        text=True,
    )
    if listed.returncode == 0:
        names = [Path(name) for name in listed.stdout.split("\0") if name]
    else:  # an unpacked source archive
        names = [path.relative_to(ROOT) for path in ROOT.rglob("*") if path.is_file()]
        names = [name for name in names if not any(part[0] in "._" for part in name.parts[:-1])]
    return tuple(sorted(name for name in set(names) if (ROOT / name).is_file()))


def python_files(*folders):
    """Python files of some top-level folders (default: the program's)."""
    return [
        path
        for path in files()
        if path.suffix == ".py" and path.parts[0] in (folders or PROGRAMS) and len(path.parts) > 1
    ]


def documents():
    """The pages of prose."""
    return [path for path in files() if path.suffix == ".md"]


@cache
def text(path):
    """The content of a file."""
    return (ROOT / path).read_text(encoding="utf-8")


@cache
def tree(path):
    """The syntax tree of a Python file."""
    return ast.parse(text(path), str(path))


def module_name(path):
    """``neuroaug/models/vae.py`` -> ``neuroaug.models.vae``; a package's name for `__init__`."""
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def modules():
    """Every module of the package by its dotted name."""
    return {module_name(path): path for path in python_files("neuroaug")}


@cache
def said(path):
    """Lines of a file that are words: comments and strings of a Python file, else all of it.

    Returns
    -------
    list of (int, str)
        Number of the line (from 1) where a piece of text begins, and the text.
    """
    if path.suffix != ".py":
        return list(enumerate(text(path).splitlines(), 1))
    tokens = tokenize.generate_tokens(io.StringIO(text(path)).readline)
    pieces = [t for t in tokens if t.type in (tokenize.COMMENT, tokenize.STRING)]
    return [
        (token.start[0] + i, line)
        for token in pieces
        for i, line in enumerate(token.string.splitlines())
    ]


def flat(path):
    """A file's content with line ends, and the comment signs after them, made one blank."""
    return re.sub(r"\s*\n[ \t]*(#:?[ \t]?)?\s*", " ", text(path))


def area(path):
    """The part of the repository that a file belongs to, for readable test names."""
    if len(path.parts) == 1:
        return "."
    if path.parts[0] == "neuroaug" and len(path.parts) > 2:
        return "/".join(path.parts[:2])
    return path.parts[0]


def areas(paths):
    """The parts of the repository that some files belong to."""
    return sorted({area(path) for path in paths})


def within(part, paths):
    """Those of `paths` that belong to a part."""
    return [path for path in paths if area(path) == part]


def lines(faults):
    """Faults as the lines of an assertion's message."""
    return "\n" + "\n".join(faults)


@cache
def headings(path):
    """Headings of a page, outside code blocks."""
    found, fenced = [], False
    for line in text(path).splitlines():
        fenced ^= line.lstrip().startswith("```")
        if not fenced and (match := re.match(r"#{1,6} (.+)", line)):
            found.append(match[1].strip())
    return found


def anchors(path):
    """Anchors of a page's headings, as repositories' web pages make them."""
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings(path))
    return {heading.strip().replace(" ", "-") for heading in plain}
