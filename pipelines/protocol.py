"""Which jobs a study needs, in what order, and the key that says when one must run again."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neuroaug.config import OPTIMISED, Cell
from neuroaug.study import Study
from neuroaug.system.files import sha256_json

RECORDS = ".neuroaug/records"


@dataclass(frozen=True)
class Protocol:
    """The jobs of one study. Reads the configuration and the names of raw files, nothing else."""

    study: Study

    @classmethod
    def open(cls, folder: str) -> Protocol:
        """The protocol of the study in `folder`."""
        return cls(Study.open(folder))

    def record(self, job: str) -> str:
        """Completion record of a job, relative to the study."""
        return f"{RECORDS}/{job}.json"

    # -- what comes before what ------------------------------------------------------------------

    @property
    def n_preprocess_jobs(self) -> int:
        """Parts that the raw participants are dealt into (arrays of cluster jobs)."""
        return self.study.config.preprocessing.jobs

    @property
    def preprocess_jobs(self) -> list[str]:
        """Names of the preprocessing jobs."""
        return [f"preprocess-{part}" for part in range(1, self.n_preprocess_jobs + 1)]

    def before(self, stage: str) -> list[str]:
        """Records that must be there before `stage`."""
        if stage == "preprocess":
            return [self.record("phantom")] if self.study.config.phantom else []
        return [self.record(job) for job in self.preprocess_jobs]

    def runs_of(self, group: str) -> str:
        """``"0-2"`` -> ``"0 1 2"``."""
        first, _, last = group.partition("-")
        return " ".join(str(k) for k in range(int(first), int(last or first) + 1))

    def groups(self) -> list[str]:
        """Runs of a cell, in groups that one job works off."""
        evaluation = self.study.config.evaluation
        size = min(evaluation.runs_per_job, evaluation.runs)
        groups = []
        for first in range(0, evaluation.runs, size):
            last = min(first + size, evaluation.runs) - 1
            groups.append(str(first) if first == last else f"{first}-{last}")
        return groups

    def generators(self, cell: Cell, group: str | None = None) -> list[tuple[str, str, int]]:
        """(split, label, seed) of the generators that a cell's runs draw from; run k uses seed k
        mod S.
        """
        if not cell.n_synthetic:
            return []
        seeds = self.study.config.generator.seeds
        if group is not None:
            runs = [int(k) for k in self.runs_of(group).split()]
            seeds = tuple(dict.fromkeys(seeds[k % len(seeds)] for k in runs))
        return [(cell.split, label, seed) for seed in seeds for label in self.study.config.labels]

    def n_synthetic(self, split: str) -> int:
        """Images a set of `split` must hold: the most that any cell asks for."""
        return max(cell.n_synthetic for cell in self.study.config.cells() if cell.split == split)

    def before_cell(self, cell_name: str, group: str) -> list[str]:
        """Records that must be there before runs of a cell."""
        cell = Cell.parse(cell_name)
        augments = [
            f"augment_{s}_{label}_{seed}" for s, label, seed in self.generators(cell, group)
        ]
        searches = self.searches(cell.resolution) if cell.network == OPTIMISED else []
        return [self.record("split"), *(self.record(job) for job in (*augments, *searches))]

    def searches(self, resolution: str) -> list[str]:
        """Jobs that share the search of the classifier at one resolution."""
        return [
            f"search_{resolution}_{part}" for part in range(1, self.study.config.search.jobs + 1)
        ]

    @property
    def searched_resolutions(self) -> list[str]:
        """Resolutions of the cells whose network is found by a search."""
        cells = self.study.config.cells()
        return list(dict.fromkeys(cell.resolution for cell in cells if cell.network == OPTIMISED))

    def evaluation_jobs(self) -> list[tuple[Cell, str]]:
        """All (cell, group of runs)."""
        return [(cell, group) for cell in self.study.config.cells() for group in self.groups()]

    def evaluations(self) -> list[str]:
        """Records of all runs."""
        return [
            self.record(f"evaluate_{cell.name}_runs-{group}")
            for cell, group in self.evaluation_jobs()
        ]

    def train_threads(self, available: int) -> int:
        """Threads of one training: the generators of one seed share what there is."""
        return max(1, available // len(self.study.config.labels))

    def search_threads(self, available: int) -> int:
        """Threads of one job of a search: all searches share what there is."""
        return max(
            1, available // max(1, self.study.config.search.jobs * len(self.searched_resolutions))
        )

    # -- keys ------------------------------------------------------------------------------------

    def keys(self) -> dict[str, str]:
        """Key of every job of the study."""
        config = self.study.config.model_dump(mode="json")
        keys: dict[str, str] = {}
        raw: Any = None
        if self.study.config.phantom:
            raw = keys["phantom"] = sha256_json(["phantom", config["phantom"]])
        elif self.study.bids is not None:
            raw = self._listing(self.study.bids, "sub-*/**/*_T1w.nii*")
        preprocess = sha256_json(["preprocess", config["preprocessing"], raw])
        for job in self.preprocess_jobs:
            keys[job] = sha256_json([job, preprocess])
        tables = None if self.study.config.phantom else self._tables(self.study.tables)
        keys["split"] = sha256_json(
            ["split", config["split"], config["cohort"], config["labels"], tables, preprocess]
        )
        for resolution in self.searched_resolutions:
            for job in self.searches(resolution):
                keys[job] = sha256_json([self._search_key(config, resolution, keys["split"]), job])
        external = [
            [name, config["external"][name], self._tables(self.study.path(given.tables))]
            for name, given in sorted(self.study.config.external.items())
        ]
        generator = {k: v for k, v in config["generator"].items() if k != "seeds"}
        for cell, group in self.evaluation_jobs():
            draws = []
            for split, label, seed in self.generators(cell, group):
                train = sha256_json(
                    ["train", generator, config["resolution"], split, label, seed, keys["split"]]
                )
                drawn = sha256_json(["augment", config["synthesis"], train])
                keys[f"train_{split}_{label}_{seed}"] = train
                keys[f"augment_{split}_{label}_{seed}"] = sha256_json(
                    [drawn, self.n_synthetic(split)]
                )
                draws.append(
                    drawn
                )  # without n: extending a set does not redo cells that use its first images
            if cell.network == OPTIMISED:
                draws.append(self._search_key(config, cell.resolution, keys["split"]))
            passed_over = ("cells", "runs", "runs_per_job", "epochs", "optimised_epochs")
            evaluation = {k: v for k, v in config["evaluation"].items() if k not in passed_over}
            evaluation["epochs"] = self.study.config.evaluation.epochs_of(cell.network)
            keys[f"evaluate_{cell.name}_runs-{group}"] = sha256_json(
                [cell.name, evaluation, external, draws, keys["split"], group]
            )
        keys["summarise"] = sha256_json(
            [keys[job] for job in sorted(keys) if job.startswith("evaluate_")]
        )
        keys["report"] = sha256_json(["report", keys["summarise"]])
        return keys

    @staticmethod
    def _search_key(config: dict[str, Any], resolution: str, split: str) -> str:
        asked = {k: v for k, v in config["search"].items() if k != "jobs"}
        shared = ("batch_size", "scaling", "storage", "precision")
        return sha256_json(
            ["search", resolution, asked, {k: config["evaluation"][k] for k in shared}, split]
        )

    def _tables(self, path: Path) -> list[tuple[str, int]]:
        if path.is_file():
            return [(path.name, path.stat().st_size)]
        return self._listing(path, "*.tsv") + self._listing(path, "sub-*/*.tsv")

    @staticmethod
    def _listing(folder: Path, pattern: str) -> list[tuple[str, int]]:
        # Nothing where the folder is not there yet: a dry run may come before the data, a run is
        # refused before.
        return sorted((str(p.relative_to(folder)), p.stat().st_size) for p in folder.glob(pattern))

    def remove_stale_records(self) -> list[str]:
        """Remove the records whose job is asked for differently now; returns their jobs."""
        stale = []
        for job, key in self.keys().items():
            path = self.study.root / self.record(job)
            if not path.is_file():
                continue
            try:
                recorded = json.loads(path.read_text()).get("key")
            except (json.JSONDecodeError, AttributeError):
                recorded = None
            if recorded != key:
                path.unlink()
                stale.append(job)
        return stale
