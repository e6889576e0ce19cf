"""Settings of each stage of a study but the generator's."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer

from neuroaug.config.cell import OPTIMISED, PUBLISHED_OPTIMISED_EPOCHS
from neuroaug.config.section import ConfigSection, Resolution, Steps, registered
from neuroaug.registries import SAMPLERS

PHANTOM_SEVERITY = 2.2
"""Separation of AD from CN in the phantoms that all earlier studies have; see docs/phantom.md."""


class PhantomConfig(ConfigSection):
    """The embedded cohort (`neuroaug.phantom.phantom_cohort`)."""

    n_participants: int = Field(48, ge=1)
    seed: int = 0
    cohort: Literal["adni", "aibl", "oasis1"] = Field(
        "adni", description="whose tables it imitates"
    )
    scanned: int | None = Field(
        None,
        ge=1,
        description="participants with a raw scan; the others' images are made on the 4 mm grid. "
        "null: all",
    )
    severity: float = Field(
        PHANTOM_SEVERITY,
        ge=0,
        le=10,
        description="separation of AD from CN, in standard deviations of the latent severity",
    )

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without what came later it is written as before there was any: keys of jobs stay."""
        content: dict[str, Any] = handler(self)
        if self.scanned is None:
            content.pop("scanned", None)
        if self.severity == PHANTOM_SEVERITY:
            content.pop("severity", None)
        return content


class PreprocessingConfig(ConfigSection):
    """Preprocessing of raw scans (`neuroaug.imaging`)."""

    profile: Literal["exact", "default", "fast"] = "default"
    n4_distance: Literal[200, 600] = 200
    template: str | None = None
    resolutions: tuple[Resolution, ...] = ("1mm", "2mm")
    timeout_s: float = Field(1800.0, gt=0)
    jobs: int = Field(1, ge=1, description="cluster jobs that the participants are dealt into")


class SplitConfig(ConfigSection):
    """Test, train and validation sets (TPAMI 5.4)."""

    default: str = "train"
    n_test: int | float = 100
    validation: float = Field(0.2, gt=0, lt=1)
    subsets: tuple[int, ...] = (50,)
    seed: int = 0
    min_age: float | None = None


class SynthesisConfig(ConfigSection):
    """Samples of a generator."""

    sampler: str = "hmc"
    profile: Literal["tuned", "paper"] = "tuned"
    seed: int = 0
    dtype: Literal["float32", "uint8"] = "float32"

    @field_validator("sampler")
    @classmethod
    def _known_sampler(cls, name: str) -> str:
        return registered(SAMPLERS, name)


class ClassifierSpec(ConfigSection):
    """A classifier of the search space: its layers, and the optimiser's settings found with it."""

    n_blocks: int = Field(5, ge=1)
    first_filters: int = Field(8, ge=1)
    convolutions_per_block: int = Field(1, ge=1)
    n_fully_connected: int = Field(3, ge=1)
    dropout: float = Field(0.5, ge=0, lt=1)
    learning_rate: float = Field(1e-4, gt=0)
    weight_decay: float = Field(0.0, ge=0)


class EvaluationConfig(ConfigSection):
    """The CNN runs (TPAMI 5.5)."""

    network: str = "baseline"
    runs: int = Field(20, ge=1)
    runs_per_job: int = Field(
        1, ge=1, description="runs of a cell that one job of the workflow works off"
    )
    epochs: int = Field(100, ge=1)
    optimised_epochs: int | None = Field(
        None,
        ge=1,
        description="of the network that the search found; null: 50 (TPAMI 5.5), at most epochs",
    )
    batch_size: int = Field(8, ge=1)
    learning_rate: float = Field(1e-4, gt=0)
    weight_decay: float = Field(0.0, ge=0)
    steps: Steps = "epochs"
    scaling: Literal["min-max", "percentile"] = "min-max"
    storage: Literal["uint8", "float16"] = Field(
        "uint8", description="voxels of the memory-mapped copies, real and synthetic alike"
    )
    precision: Literal["auto", "32", "bf16"] = Field(
        "auto", description="auto: bf16 convolutions on a GPU, 32 on a CPU"
    )
    checkpoint_every_s: float = Field(
        60.0, ge=0, description="least seconds between two checkpoints of a run"
    )
    seed: int = 0
    cells: tuple[str, ...] = ("real", "synthetic-5000", "real+synthetic-5000")

    def epochs_of(self, network: str) -> int:
        """Epochs that a network is trained for: the searched one's are its own."""
        if network != OPTIMISED:
            return self.epochs
        return self.optimised_epochs or min(PUBLISHED_OPTIMISED_EPOCHS, self.epochs)


class CurveConfig(ConfigSection):
    """Learning curves: the study again with few people per label, in several splits."""

    n: tuple[int, ...] = Field((5, 10, 20, 50), description="real people per label")
    splits: int = Field(5, ge=1, description="splits of the cohort, seeds from that of split on")
    runs: int = Field(2, ge=1, description="runs of each cell in each split")
    cells: tuple[str, ...] = Field(
        (), description="arms; none: the study's cells. Real images and controls come beside them"
    )

    @field_validator("n")
    @classmethod
    def _rising(cls, numbers: tuple[int, ...]) -> tuple[int, ...]:
        if not numbers or min(numbers) < 2 or len(set(numbers)) != len(numbers):
            raise ValueError("numbers of 2 or more people per label, each once")
        return tuple(sorted(numbers))


class SearchConfig(ConfigSection):
    """Random search of the classifier (TPAMI 5.5)."""

    draws: int = Field(100, ge=1)
    folds: int = Field(5, ge=2)
    epochs: int = Field(50, ge=1)
    seed: int = 0
    jobs: int = Field(
        1, ge=1, description="jobs of the workflow that share the trials of one search"
    )
