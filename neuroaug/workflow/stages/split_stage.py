"""Test, train, validation and train-K sets of the study's participants."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from neuroaug.config import StudyConfig
from neuroaug.study import Study
from neuroaug.workflow.stage import Earlier, Job, Stage, key_of, listing

# Per label, ADNI's train-full (TPAMI sec. 5.4): for a split that is not drawn yet.
PUBLISHED_SIZE = 226
REHEARSED_SUBSET = 6  # a generator is not learned from fewer than five


class SplitStage(Stage):
    """The split."""

    name = "split"

    def jobs(self, study: Study, earlier: Earlier) -> list[Job]:
        """One job."""
        config, preprocess = study.config.model_dump(mode="json"), earlier["preprocess"]
        tables = None if study.config.phantom else tables_listing(study.tables)
        asked = [config["split"], config["cohort"], config["labels"]]
        key = key_of("split", *asked, tables, preprocess[0].product)
        return [Job("split", ("split",), key, tuple(job.name for job in preprocess))]

    def rehearsal(self, config: StudyConfig) -> dict[str, Any]:
        """As many training sets, of a few participants."""
        return {
            "split": {
                **config.split.model_dump(),
                "default": rehearsed_set(config, config.split.default),
                "n_test": 4,
                "validation": 0.2,
                "subsets": list(_rehearsed_subsets(config).values()),
            }
        }


def tables_listing(path: Path) -> list[tuple[str, int]]:
    """Names and sizes of a cohort's tables: a folder of them, or one merged table."""
    if path.is_file():
        return [(path.name, path.stat().st_size)]
    return listing(path, "*.tsv") + listing(path, "sub-*/*.tsv")


def n_per_label(study: Study, split: str) -> int:
    """Training images per label: counted where the split is drawn, else what its name promises."""
    if (study.splits / "split.json").is_file():
        from neuroaug.cohort.split_folder import SplitFolder

        folder = SplitFolder.open(study.splits)
        folder.verify()
        if split in folder.names():
            return max(1, int(folder.table(split)["diagnosis"].value_counts().max()))
    if "-" in split:
        return int(split.split("-")[1])
    if study.config.phantom is not None:
        return max(1, study.config.phantom.n_participants // 3)
    return PUBLISHED_SIZE


def _rehearsed_subsets(config: StudyConfig) -> dict[int, int]:
    """Sizes of the training sets, and what a rehearsal has instead; their order stays."""
    return {k: REHEARSED_SUBSET + i for i, k in enumerate(sorted(set(config.split.subsets)))}


def rehearsed_set(config: StudyConfig, name: str) -> str:
    """Name of the training set that a rehearsal has instead of `name`."""
    _, dash, k = name.partition("-")
    return f"train-{_rehearsed_subsets(config).get(int(k), k)}" if dash else name
