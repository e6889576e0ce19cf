"""A cell of the evaluation, and its name."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Literal

from neuroaug.config.section import ConfigSection, Resolution, Steps
from neuroaug.errors import InputError

OPTIMISED = "optimised"  # the network that `neuroaug search` finds
PUBLISHED_OPTIMISED_EPOCHS = 50


class Control(StrEnum):
    """Classifiers that are fitted at once: what augmentation of a network has to beat.

    ``linear`` reads principal components, ``brain-age`` how much older an image looks than its
    person is, ``bayes-rule`` is the rule of a generator's law.
    """

    LINEAR = "linear"
    BRAIN_AGE = "brain-age"
    BAYES_RULE = "bayes-rule"


CLASSIFIERS = (
    "baseline",
    OPTIMISED,
    *(control.value for control in Control),
    *(f"densenet{n}" for n in (121, 169, 201, 264)),
    *(f"resnet{n}" for n in (10, 18, 34, 50, 101, 152, 200)),
)

_SYNTHETIC = r"synthetic-\d+(?:-soft|-hard)?"
_UNLABELLED = "soft-unlabelled"
_TOGETHER = r"(?:\+ensemble-[1-9]\d*)?"
DATA_PATTERN = (
    rf"real(?:\+classical)?(?:\+mixup)?(?:\+duplicates-[1-9]\d*)?(?:\+{_SYNTHETIC})?"
    rf"(?:\+{_UNLABELLED})?(?:\+tta)?{_TOGETHER}"
    rf"|(?:{_SYNTHETIC}|{_UNLABELLED}|{_SYNTHETIC}\+{_UNLABELLED}){_TOGETHER}"
)
_CELL = re.compile(
    rf"(?P<split>train(?:-\d+)?)_(?P<network>[A-Za-z0-9-]+)_(?P<resolution>1mm|2mm|4mm)_(?P<data>{DATA_PATTERN})(?P<matched>_steps-matched)?"
)


class Cell(ConfigSection):
    """One training set and network of the evaluation (docs/architecture.md, ``<cell>``)."""

    split: str
    network: str
    resolution: Resolution
    data: str
    steps: Steps = "epochs"

    @property
    def name(self) -> str:
        """``train-50_baseline_2mm_real+synthetic-5000[_steps-matched]``."""
        suffix = "_steps-matched" if self.steps == "matched" else ""
        return f"{self.split}_{self.network}_{self.resolution}_{self.data}{suffix}"

    @property
    def uses_real(self) -> bool:
        """Whether real images are trained on."""
        return self.data.startswith("real")

    @property
    def uses_classical(self) -> bool:
        """Whether classical augmentation is applied to the real images."""
        return "classical" in self.data

    @property
    def n_synthetic(self) -> int:
        """Synthetic images per label (images 1..n of each set)."""
        match = re.search(r"synthetic-(\d+)", self.data)
        return int(match[1]) if match else 0

    def _number(self, part: str) -> int:
        match = re.search(rf"{part}-(\d+)", self.data)
        return int(match[1]) if match else 0

    @property
    def n_duplicates(self) -> int:
        """Further copies of real images, per label: as many images as a synthetic set, none new."""
        return self._number("duplicates")

    @property
    def uses_unlabelled(self) -> bool:
        """Whether real scans without a label are trained on, by their probability under the law."""
        return _UNLABELLED in self.data

    @property
    def asks_law(self) -> bool:
        """Whether a generator's law judges images: it is the classifier, or labels scans."""
        return self.control is Control.BAYES_RULE or self.uses_unlabelled

    @property
    def uses_mixup(self) -> bool:
        """Whether images are mixed in pairs in training."""
        return "+mixup" in self.data

    @property
    def uses_test_time(self) -> bool:
        """Whether tested images are augmented as in training, and their scores averaged."""
        return "+tta" in self.data

    @property
    def n_members(self) -> int:
        """Classifiers whose scores are averaged."""
        return self._number("ensemble") or 1

    @property
    def member(self) -> Cell:
        """The cell of one of its classifiers."""
        return self.model_copy(update={"data": re.sub(r"\+ensemble-\d+", "", self.data)})

    def checked(self) -> Cell:
        """Itself, if its parts fit together.

        Raises
        ------
        InputError
            If not.
        """
        if self.uses_test_time and not self.uses_classical:
            raise InputError(
                f"cell '{self.name}': tta repeats the training's augmentation; write +classical too"
            )
        words = [word for word in ("classical", "mixup", "tta", "ensemble") if word in self.data]
        if self.control is not None and words:
            raise InputError(f"cell '{self.name}': {self.network} is fitted at once, no {words[0]}")
        return self

    @property
    def control(self) -> Control | None:
        """The control that its network is, if it is one."""
        return Control(self.network) if self.network in list(Control) else None

    @property
    def synthetic_labels(self) -> Literal["soft", "hard", "auto"]:
        """How synthetic images are labelled in training.

        ``soft``: by their probability under the law; ``hard``: by the label that they were drawn
        for; ``auto``: soft where the images have a probability and no real image stands beside
        them, as in the cell's name without a word about it.
        """
        for word in ("soft", "hard"):
            if re.search(rf"synthetic-\d+-{word}", self.data):
                return word  # type: ignore[return-value]
        return "hard" if self.uses_real else "auto"

    @classmethod
    def parse(cls, name: str) -> Cell:
        """Read a cell's full name.

        Raises
        ------
        InputError
            If the name does not follow the pattern.

        Examples
        --------
        >>> cell = Cell.parse("train-50_baseline_2mm_real+synthetic-5000")
        >>> cell.split, cell.n_synthetic, cell.uses_real
        ('train-50', 5000, True)
        """
        match = _CELL.fullmatch(name)
        if match is None:
            raise InputError(
                f"cell '{name}': not understood; a cell is <split>_<network>_<resolution>_<data>, "
                "e.g. train-50_baseline_2mm_real+synthetic-5000"
            )
        return cls(
            split=match["split"],
            network=match["network"],
            resolution=match["resolution"],  # type: ignore[arg-type]
            data=match["data"],
            steps="matched" if match["matched"] else "epochs",
        ).checked()
