"""What all experiments share: images, generators and classifiers of one run, each made once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuroaug.errors import InputError
from neuroaug.models.generative_model import GenerativeModel
from neuroaug.published import trained_generators
from neuroaug.published.digits.digit_augmentation import enlarged
from neuroaug.published.digits.digit_classifier import DigitTraining, Trained, train
from neuroaug.published.digits.digit_images import LabelledImages
from neuroaug.published.digits.digit_subsets import Subset, draw, read_source
from neuroaug.published.memo import Memo
from neuroaug.published.run_scores import Score
from neuroaug.system.randomness import CLASSIFIER

REAL, ONLY, BOTH = "real", "synthetic", "real + synthetic"


@dataclass(frozen=True)
class Arm:
    """A way of generating: which model, which sampler.

    Attributes
    ----------
    name : str
        Name of the arm in the table's rows.
    model : str
        Name of the generator's settings in the table's configuration.
    sampler : str
        Name of a sampler, as ``neuroaug augment --sampler`` takes it.
    profile : str
        Settings of the sampler: ``tuned`` or ``paper``.
    """

    name: str
    model: str
    sampler: str
    profile: str = "tuned"


@dataclass(frozen=True, eq=False)
class TableRun:
    """One run of a table on one data set.

    Parameters
    ----------
    memo : Memo
        Where results are kept.
    settings : dict
        The table's configuration.
    dataset : str
        Name of one of its data sets.
    index : int
        Number of the run, from 0.
    """

    memo: Memo
    settings: dict[str, Any]
    dataset: str
    index: int
    _models: dict[str, dict[int, GenerativeModel]] = field(default_factory=dict)
    _sampled: dict[Arm, LabelledImages] = field(default_factory=dict)

    @property
    def seed(self) -> int:
        """Seed of everything in this run; tables share it, and so generators and classifiers."""
        return CLASSIFIER.seed("published", self.dataset, self.index, self.settings.get("seed", 0))

    @cached_property
    def spec(self) -> dict[str, Any]:
        """Settings of the data set."""
        try:
            return dict(self.settings["datasets"][self.dataset])
        except KeyError:
            raise InputError(f"data set '{self.dataset}': not in the configuration") from None

    @cached_property
    def subset(self) -> Subset:
        """The run's images."""
        spec = self.spec
        return draw(
            read_source(spec["source"], self.settings.get("paths")),
            name=f"{self.dataset}/{self.settings.get('seed', 0)}",
            run=self.index,
            classes=spec.get("classes"),
            counts=list(spec["counts"]),
            max_test=spec.get("max_test"),
        )

    def model_settings(self, name: str) -> dict[str, Any]:
        """Settings of a generator for this data set."""
        try:
            return {**self.settings["models"][name], **self.spec.get("models", {})}
        except KeyError:
            raise InputError(f"model '{name}': not in the configuration") from None

    def models(self, name: str) -> dict[int, GenerativeModel]:
        """One generator per class, on the training images; a model tunes its sampler only once."""
        if name not in self._models:
            self._models[name] = trained_generators.each_class(
                self.memo, self.subset.train, self.model_settings(name), seed=self.seed
            )
        return self._models[name]

    def model_of_all(self, name: str) -> GenerativeModel:
        """One generator of all the run's training images, whatever their class."""
        return trained_generators.fitted(
            self.memo, self.subset.train, self.model_settings(name), label="all", seed=self.seed
        )

    def sampled(self, model: GenerativeModel, arm: Arm, n: int) -> NDArray[np.uint8]:
        """Images 1..n of a generator, (n, X, Y, 1), by the sampler of an arm."""
        return trained_generators.sampled(
            model, n, arm.sampler, seed=self.seed, profile=arm.profile
        )

    def synthetic(self, arm: Arm, n: int) -> LabelledImages:
        """Images 1..n of every class, from one set as large as any cell of the table needs."""
        if arm not in self._sampled:
            largest = max([n, *(m for m in self.settings["n_synthetic"] if self.wants(arm, m))])
            self._sampled[arm] = trained_generators.sampled_set(
                self.models(arm.model), largest, arm.sampler, seed=self.seed, profile=arm.profile
            )
        whole = self._sampled[arm]
        per_class = len(whole) // self.subset.n_classes
        return whole.take(np.flatnonzero(np.arange(len(whole)) % per_class < n))

    def wants(self, arm: Arm, n: int) -> bool:
        """Whether the table has cells of this arm with `n` images per class.

        ``only_some`` in the configuration names the arms of an n that not every arm has.
        """
        few = self.settings.get("only_some", {})
        return n not in few or arm.name in few[n]

    def classifier(self, name: str = "classifier") -> DigitTraining:
        """Settings of a classifier."""
        return DigitTraining(**self.settings[name])

    def train(
        self,
        training: LabelledImages,
        tests: dict[str, LabelledImages],
        kind: DigitTraining,
        title: str,
    ) -> Trained:
        """Train a classifier on given images."""
        return train(
            training,
            self.subset.validation,
            tests,
            n_classes=self.subset.n_classes,
            settings=kind,
            seed=self.seed,
            title=f"{self.dataset} run {self.index}: {title}",
        )

    def accuracy(
        self, key: dict[str, Any], training: Callable[[], LabelledImages], kind: DigitTraining
    ) -> dict[str, float]:
        """Test and validation accuracy of a classifier, kept by `key`.

        Its training images are made only where the accuracy is not known yet.
        """
        parts = (self.subset.train, self.subset.validation, self.subset.test)
        whole = {
            **key,
            "what": "accuracy",
            "subset": "".join(part.sha256() for part in parts),
            "classifier": asdict(kind),
            "seed": self.seed,
        }

        def compute() -> dict[str, float]:
            title = " ".join(str(v) for k, v in key.items() if k in ("arm", "mode", "n"))
            found = self.train(training(), {"test": self.subset.test}, kind, title)
            return {"test": found.accuracy["test"], "validation": found.validation}

        return self.memo.value(whole, compute)

    def real(self, kind: DigitTraining) -> dict[str, float]:
        """Accuracy with the real training images alone."""
        return self.accuracy({"mode": REAL}, lambda: self.subset.train, kind)

    def enlarged(self, factor: int, kind: DigitTraining) -> dict[str, float]:
        """Accuracy with classical augmentation."""
        key = {"mode": REAL, "arm": "classical", "n": factor}
        return self.accuracy(key, lambda: enlarged(self.subset.train, factor, self.seed), kind)

    def augmented(self, arm: Arm, n: int, mode: str, kind: DigitTraining) -> dict[str, float]:
        """Accuracy with `n` synthetic images per class, alone or beside the real ones."""
        key = {
            "mode": mode,
            "arm": [arm.sampler, arm.profile],
            "n": n,
            "model": trained_generators.identity(self.model_settings(arm.model)),
        }

        def training() -> LabelledImages:
            synthetic = self.synthetic(arm, n)
            if mode == ONLY:
                return synthetic
            real = self.subset.train
            return LabelledImages(
                np.concatenate([real.images, synthetic.images]),
                np.concatenate([real.labels, synthetic.labels]),
            )

        return self.accuracy(key, training, kind)

    def score(self, row: str, measure: str, value: float) -> Score:
        """One result of this run."""
        column, table = self.spec.get("title", self.dataset), self.settings["table"]
        return Score(table, row, column, self.index, self.seed, measure, float(value))

    def scores(self, rows: Iterable[tuple[str, dict[str, float]]]) -> list[Score]:
        """All results of some rows, each a name and its measures."""
        return [self.score(row, *each) for row, measures in rows for each in measures.items()]


def arms(settings: dict[str, Any]) -> list[Arm]:
    """The arms of a table's configuration."""
    return [Arm(**arm) for arm in settings["arms"]]
