"""What the code and the pages cite is there: sections, equations, papers, pages, modules."""

import ast
import calendar
import re
from functools import cache
from pathlib import Path

import pytest
from repository import (
    ROOT,
    anchors,
    areas,
    documents,
    files,
    flat,
    headings,
    lines,
    module_name,
    modules,
    text,
    tree,
    within,
)

METHOD = Path("docs/method.md")
REFERENCES = Path("docs/references.md")
PAPERS = ("TPAMI", "GEO", "OASIS", "THESIS", "SLIDES")

READABLE = {".py", ".md", ".tsv", ".yaml", ".toml", ".j2", ".txt", ".def"}
NAMES = {"Snakefile", "Makefile", "Dockerfile"}
CITING = [
    path
    for path in files()
    if (path.suffix in READABLE or path.name in NAMES)
    and path.parts[:2] != ("tests", "structure")  # whose examples cite what is not there
    and not (path.parts[:2] == ("docs", "published") and path.suffix == ".tsv")  # numbers
]

KINDS = {
    "eq.": "eq.",
    "Table": "Table",
    "Tables": "Table",
    "Alg.": "Alg.",
    "sec.": "sec.",
    "App.": "App.",
    "ch.": "ch.",
}
_NUMBER = r"(?:\d+(?:\.\d+)*|[A-Z](?:\.\d+)*(?![\w.]))"
_PLACE = rf"(?:(?:eq\.|Tables?|Alg\.|sec\.|App\.|ch\.) )?{_NUMBER}(?![\w%])"
_CHAIN = rf"{_PLACE}(?:(?:,? and |[,;] | to ){_PLACE})*"
_OF_PAPER = re.compile(
    rf"\b({'|'.join(PAPERS)})\b(?!-)(?:'s)?,?(?: (?:below|above|after))? ({_CHAIN})"
)
_OF_METHOD = re.compile(r"\bMETHOD\b((?: \d+(?:\.\d+)*(?:(?:,? and |, )\d+(?:\.\d+)*(?![\w.]))*)?)")


def places_of(chain):
    """``eq. 9, 14 and App. C`` -> ``["eq. 9", "eq. 14", "App. C"]``.

    A number without a kind takes the one before it; at the start, it is a section's where it has
    parts (``5.4``), an appendix's where it begins with a letter (``F.1``).
    """
    found, kind, last = [], None, None
    for joint, own, number in re.findall(
        rf"(,? and |[,;] | to |^)((?:eq\.|Tables?|Alg\.|sec\.|App\.|ch\.)? ?)({_NUMBER})", chain
    ):
        own = own.strip()
        if own:
            kind = KINDS[own]
        elif kind is None:
            if number[0].isdigit() and "." not in number:
                return []  # a number that is not a section's
            kind = "sec." if number[0].isdigit() else "App."
        if joint == " to ":
            found += [f"{kind} {n}" for n in range(int(last) + 1, int(number))]
        found.append(f"{kind} {number}")
        last = number
    return found


@cache
def method_sections():
    return {
        match[1].rstrip(".")
        for heading in headings(METHOD)
        if (match := re.match(r"(\d+(?:\.\d+)*)\.? ", heading))
    }


@cache
def references():
    """Names of docs/references.md, each with the places that are listed under it."""
    known, name = {}, None
    for line in text(REFERENCES).splitlines():
        if match := re.match(r"## (.+)", line):
            name = match[1].strip()
            known[name] = set()
        elif name and (match := re.match(r"- \*\*(.+?)\*\*", line)):
            known[name] |= set(places_of(match[1]))
    return known


@pytest.mark.parametrize("part", areas(CITING))
def test_sections_of_the_method_are_there(part):
    faults = []
    for path in within(part, CITING):
        for match in _OF_METHOD.finditer(flat(path)):
            cited = re.findall(r"\d+(?:\.\d+)*", match[1])
            faults += [f"{path}: METHOD {n}" for n in cited if n not in method_sections()]
            faults += [] if cited else [f"{path}: METHOD without a section"]
    assert not faults, lines(faults)


@pytest.mark.parametrize("part", areas(CITING))
def test_places_in_papers_are_listed(part):
    faults = []
    for path in within(part, CITING):
        for paper, chain in _OF_PAPER.findall(flat(path)):
            known = references()[paper]
            faults += [f"{path}: {paper} {p}" for p in places_of(chain) if p not in known]
    assert not faults, lines([*sorted(set(faults)), f"(they are not in {REFERENCES})"])


_AUTHOR_YEAR = re.compile(
    r"\b([A-Z][a-zé-]+)( et al\.,?| (?:and|&) [A-Z][a-zé-]+)? \(?((?:19|20)\d\d)\b"
)
MONTHS = set(calendar.month_name)
NO_AUTHORS = {"In", "Of", "Since", "Until", "By", "From", "The", "Copyright"}


@pytest.mark.parametrize("part", areas(CITING))
def test_authors_and_years_are_listed(part):
    faults = []
    for path in within(part, CITING):
        if path.name.startswith("LICENSE"):
            continue
        for author, others, year in _AUTHOR_YEAR.findall(flat(path)):
            if author in MONTHS | NO_AUTHORS:
                continue
            name = f"{author}{others.rstrip(',')} {year}"
            if not any(known.startswith(name) for known in references()):
                faults.append(f"{path}: {name}")
    assert not faults, lines([*sorted(set(faults)), f"(they are not in {REFERENCES})"])


def test_every_paper_is_listed():
    assert set(PAPERS) <= set(references())


# Pages ------------------------------------------------------------------------------------------

_PAGE = re.compile(r"(?<![\w*<>{}])((?:[\w.-]+/)*[\w-]+\.md)\b")
_LINK = re.compile(r"\]\(([^)\s]+)\)")


def made_by(path):
    """Files that a page of worked examples has its reader write."""
    return {Path(name) for name in re.findall(r"<!-- write (\S+) -->", text(path))}


def is_there(path, name):
    """Whether a page is named from beside the file that names it, from the root or from docs/.

    The tables' configurations hold words of the pages in docs/published/, and link from there.
    """
    around = [ROOT / path.parent, ROOT, ROOT / "docs"]
    if path.parent == Path("pipelines/published"):
        around.append(ROOT / "docs" / "published")
    return any((folder / name).is_file() for folder in around)


@pytest.mark.parametrize("part", areas(CITING))
def test_pages_that_are_named_are_there(part):
    faults = [
        f"{path}: {name}"
        for path in within(part, CITING)
        if path.parts[0] != "docker" or path.suffix == ".md"  # /src/README.md of an image
        if path.parts[:2] != ("tests", "published")  # the pages that they make
        for name in _PAGE.findall(text(path))
        if not is_there(path, name)
    ]
    assert not faults, lines(sorted(set(faults)))


@pytest.mark.parametrize("path", documents(), ids=str)
def test_links_of_a_page_lead_somewhere(path):
    faults = []
    for target in _LINK.findall(text(path)):
        if re.match(r"[a-z]+:", target):
            continue  # the network's
        name, _, anchor = target.partition("#")
        there = (ROOT / path.parent / name).resolve() if name else ROOT / path
        if not there.exists() or (anchor and anchor not in anchors(there.relative_to(ROOT))):
            faults.append(target)
    assert not faults, lines(faults)


# Modules ----------------------------------------------------------------------------------------

_DOTTED = re.compile(r"(?<![\w./@-])neuroaug((?:\.(?!__)[A-Za-z_]\w*)+)")
NOT_CODE = {"yaml", "def", "sif", "tar", "css", "log", "egg", "dist"}
"""What stands after ``neuroaug.`` in the name of a file."""


@cache
def defined(module):
    """Names at the top of a module, each with the names in its class body."""
    names = {}
    for node in ast.walk(tree(modules()[module])):
        if isinstance(node, ast.ClassDef):
            body = [
                *(n.name for n in node.body if hasattr(n, "name")),
                *(
                    n.target.id
                    for n in node.body
                    if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)
                ),
            ]
            names[node.name] = set(body)
        elif isinstance(node, ast.FunctionDef):
            names[node.name] = set()
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name: None for alias in node.names}
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                names |= {n.id: None for n in ast.walk(target) if isinstance(n, ast.Name)}
                if isinstance(target, ast.Name) and target.id == "__all__":
                    names |= dict.fromkeys(ast.literal_eval(node.value))
    return names


def leads_somewhere(dotted):
    """Whether a dotted name is a module, or a name in one."""
    parts = dotted.split(".")
    for n in range(len(parts), 0, -1):
        module = ".".join(parts[:n])
        if module in modules():
            break
    rest = parts[n:]
    if not rest:
        return True
    names = defined(module)
    if rest[0] not in names:
        return False
    inside = names[rest[0]]
    return len(rest) == 1 or inside is None or rest[1] in inside


@pytest.mark.parametrize("part", areas(CITING))
def test_dotted_names_are_of_something(part):
    faults = [
        f"{path}: neuroaug{dotted}"
        for path in within(part, CITING)
        for dotted in _DOTTED.findall(re.sub(r"getLogger\(.*?\)", "", text(path)))
        if dotted.split(".")[1] not in NOT_CODE
        and f"neuroaug{dotted}" not in map(module_name, made_by(path))
        and not leads_somewhere(f"neuroaug{dotted}")
    ]
    assert not faults, lines(sorted(set(faults)))


_FILE = re.compile(r"(?<![\w./-])((?:neuroaug|pipelines|scripts|tests|configs|docker)/[\w./-]*\w)")


@pytest.mark.parametrize("path", documents(), ids=str)
def test_files_that_a_page_names_are_there(path):
    faults = [
        name
        for name in _FILE.findall(text(path))
        if not (ROOT / name).exists() and Path(name) not in made_by(path)
    ]
    assert not faults, lines(sorted(set(faults)))


# The tests themselves ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sentence", "paper", "expected"),
    [
        ("(TPAMI eq. 5 and 13)", "TPAMI", ["eq. 5", "eq. 13"]),
        ("(TPAMI eq. 9, 14 and App. C; GEO Alg. 2).", "TPAMI", ["eq. 9", "eq. 14", "App. C"]),
        ("TPAMI Table 11; Table 8 with", "TPAMI", ["Table 11", "Table 8"]),
        ("TPAMI's Tables 14 to 17", "TPAMI", ["Table 14", "Table 15", "Table 16", "Table 17"]),
        ("(TPAMI 5.5), never", "TPAMI", ["sec. 5.5"]),
        ("(TPAMI D.2.3; Huang)", "TPAMI", ["App. D.2.3"]),
        ("(GEO, below eq. 7)", "GEO", ["eq. 7"]),
        ("THESIS ch. 4; then", "THESIS", ["ch. 4"]),
        ("TPAMI Table 3, the paper's DenseNet", "TPAMI", ["Table 3"]),
    ],
)
def test_places_are_read_as_people_write_them(sentence, paper, expected):
    name, chain = _OF_PAPER.search(sentence).groups()
    assert (name, places_of(chain)) == (paper, expected)


@pytest.mark.parametrize("sentence", ["OASIS-1 has 62", "OASIS   200 steps", "GEO prints them"])
def test_what_is_no_place_is_passed_over(sentence):
    match = _OF_PAPER.search(re.sub(" +", " ", sentence))
    assert match is None or not places_of(match[2])
