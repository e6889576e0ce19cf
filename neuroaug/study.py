"""A study on disk: a folder that holds ``neuroaug.yaml``, and where everything in it lies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from neuroaug.config import Cell, StudyConfig, read_config
from neuroaug.errors import InputError

CONFIG_NAME = "neuroaug.yaml"


@dataclass(frozen=True)
class Study:
    """The layout of a study (docs/architecture.md, "A study on disk"): paths only.

    Attributes
    ----------
    root : Path
        The study's folder, absolute.
    config : StudyConfig
        Content of its ``neuroaug.yaml``.
    """

    root: Path
    config: StudyConfig

    @classmethod
    def open(cls, folder: str | Path) -> Study:
        """Open the study in `folder`.

        Raises
        ------
        InputError
            If the folder is missing or holds no ``neuroaug.yaml``.
        """
        folder = Path(folder).absolute()
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder")
        if not (folder / CONFIG_NAME).is_file():
            raise InputError(f"{folder}: not a study (no {CONFIG_NAME} in it)")
        return cls(folder, read_config(folder / CONFIG_NAME))

    @classmethod
    def here(cls) -> Study | None:
        """The study of the current folder, or None where there is none."""
        return cls.open(Path.cwd()) if (Path.cwd() / CONFIG_NAME).is_file() else None

    def path(self, relative: str) -> Path:
        """A path of the YAML, made absolute; relative ones count from the study."""
        return (self.root / Path(relative).expanduser()).absolute()

    @property
    def caps(self) -> Path:
        """Preprocessed real images."""
        return self.path(self.config.caps)

    @property
    def bids(self) -> Path | None:
        """Raw images, if any."""
        return self.path(self.config.bids) if self.config.bids else None

    @property
    def tables(self) -> Path:
        """The folder with ``participants.tsv``; the raw BIDS where the default does not exist."""
        default = self.path(self.config.tables)
        if not default.exists() and self.bids is not None and self.config.tables == "bids":
            return self.bids
        return default

    @property
    def splits(self) -> Path:
        """Folder of the split's tables."""
        return self.root / "splits"

    @property
    def cache(self) -> Path:
        """Memory-mapped copies of images; may be deleted at any time."""
        return self.root / "cache"

    def model(self, split: str, label: str, seed: int | None = None) -> Path:
        """Folder of one generator; the first seed of the config has no suffix."""
        return self.root / "models" / split / self._member(label, seed)

    def synthetic(self, split: str, label: str, seed: int | None = None) -> Path:
        """A synthetic CAPS."""
        return self.root / "synthetic" / split / self._member(label, seed)

    def _member(self, label: str, seed: int | None) -> str:
        first = seed is None or seed == self.config.generator.seeds[0]
        return label if first else f"{label}_seed-{seed}"

    def search(self, resolution: str) -> Path:
        """Folder of the search of the classifier at a resolution."""
        return self.root / "search" / resolution

    def cell(self, cell: Cell) -> Path:
        """Folder of one cell of the evaluation."""
        return self.root / "evaluation" / cell.name

    def run(self, cell: Cell, k: int) -> Path:
        """Folder of run `k` of a cell (from 0)."""
        return self.cell(cell) / f"run-{k}"

    @property
    def results(self) -> Path:
        """``results.tsv``."""
        return self.root / "results.tsv"

    @property
    def comparisons(self) -> Path:
        """``comparisons.tsv``."""
        return self.root / "comparisons.tsv"

    @property
    def report(self) -> Path:
        """``report.html``."""
        return self.root / "report.html"

    @property
    def logs(self) -> Path:
        """Log files, one per stage."""
        return self.root / "logs"
