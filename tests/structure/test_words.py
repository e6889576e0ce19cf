"""The words are the field's, and prose fits a screen."""

import re

import pytest
from repository import areas, documents, files, lines, said, text, within

# pattern -> what to write instead
BANNED = {
    r"\bhouses?\b": "package",
    r"\brooms?\b": "package, layer; of memory: space",
    r"\bverbs?\b": "command",
    r"\bthumb-?prints?\b": "image fingerprint",
    r"\bfoot-?prints?\b": "memory estimate",
    r"\bchance\b": "probability, random guessing",
    r"\b(?:feeds?|fed|feeding)\b": "gives, passes, batches",
    r"\b(?:alive|dead)\b": "running, flat, uninformative",
    r"\bto the letter\b": "as printed",
    r"\b(?:a|an|each|every|per|one|no|another|last|first) draw\b": "sample",
    r"\b(?:the|these|those|all|its|their|any|few|fixed|normal|effective|independent|perfect"
    r"|synthetic|uniform|further|first|\d+|n|of) draws\b(?! (?:a|an|the|from|its|their|what)\b)": (
        "samples"
    ),
    r"\bdraws of\b": "samples of",
    r"\b(?:was|were) tried first\b|\bat first\b|\bthat was not kept\b": "the reason instead",
    r"\basked for\b(?= \|)": "the limit, and who sets it",
    r"\b(?:s|seconds|minutes|hours|ms|MB|GB|nats|threads|images|steps|samples|times|one|once|row"
    r"|rows|process|folder|file|line|json) an? (?:visit|image|scan|voxel|participant|label|cell"
    r"|run|step|epoch|chain|sample|side|axis|dimension|job|table|worker|core|coordinate|fold"
    r"|stage|processor|set)\b": "per ...",
}

FOLDERS = ("neuroaug", "pipelines", "docs", "scripts", "docker", "configs")
WRITTEN = [
    path
    for path in files()
    if path.parts[0] in (*FOLDERS, "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "Makefile")
    and path.suffix in (".py", ".md", ".yaml", ".j2", "")
    and "data" not in path.parts
]
KEPT = re.compile(
    r"`[^`]*`"  # names of options, files and columns
    r"|RHVAE \(bound to the letter\)|objective: the bound to the letter"  # rows of published tables
)


@pytest.mark.parametrize("part", areas(WRITTEN))
def test_words_are_of_the_field(part):
    faults = []
    for path in within(part, WRITTEN):
        for number, line in said(path):
            plain = KEPT.sub("", line)
            faults += [
                f"{path}:{number}: {match[0]!r} -> {instead}"
                for pattern, instead in BANNED.items()
                for match in re.finditer(pattern, plain, re.IGNORECASE)
            ]
    assert not faults, lines(faults)


@pytest.mark.parametrize(
    "name", ["verbs", "rooms", "house", "thumbprint", "footprint", "draws", "feed"]
)
def test_no_file_is_called_by_a_word_that_is_not(name):
    called = [str(path) for path in files() if re.fullmatch(rf"{name}s?", path.stem, re.IGNORECASE)]
    assert not called


WIDTH = 100


@pytest.mark.parametrize("path", documents(), ids=str)
def test_prose_is_wrapped(path):
    faults, fenced = [], False
    for number, line in enumerate(text(path).splitlines(), 1):
        fenced ^= line.lstrip().startswith("```")
        code = fenced or line.startswith(("    ", "\t"))
        table = line.lstrip().startswith("|")
        link = re.search(r"\]\(\S+\)|https?://\S+|!\[", line)
        if len(line) > WIDTH and not (code or table or link):
            faults.append(f"{path}:{number}: {len(line)} columns")
    assert not faults, lines(faults)
