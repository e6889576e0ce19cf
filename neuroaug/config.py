"""What is asked of each stage: frozen pydantic models, read from ``neuroaug.yaml``.

Every key has a default; an unknown key is refused with the nearest known one.
"""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from neuroaug.errors import InputError
from neuroaug.system.files import reading, write_text

Label = Literal["CN", "AD"]
Resolution = Literal["1mm", "2mm", "4mm"]
SamplerName = Literal["hmc", "random-walk", "geometric", "prior", "mixture"]
Steps = Literal["epochs", "matched"]

OPTIMISED = "optimised"  # the network that `neuroaug search` finds
PUBLISHED_OPTIMISED_EPOCHS = 50
CLASSIFIERS = (
    "baseline",
    OPTIMISED,
    *(f"densenet{n}" for n in (121, 169, 201, 264)),
    *(f"resnet{n}" for n in (10, 18, 34, 50, 101, 152, 200)),
)

_DATA = r"real|synthetic-\d+|real\+synthetic-\d+|real\+classical|real\+classical\+synthetic-\d+"
_CELL = re.compile(
    rf"(?P<split>train(?:-\d+)?)_(?P<network>[A-Za-z0-9-]+)_(?P<resolution>1mm|2mm|4mm)_(?P<data>{_DATA})(?P<matched>_steps-matched)?"
)


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class Cell(_Section):
    """One training set and network of the evaluation (ARCHITECTURE.md, ``<cell>``)."""

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

    @classmethod
    def parse(cls, name: str) -> Cell:
        """Read a cell's full name.

        Raises
        ------
        InputError
            If the name does not follow the pattern.
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
        )


class PhantomConfig(_Section):
    """The embedded cohort (`neuroaug.phantom.phantom_cohort`)."""

    n_participants: int = Field(48, ge=1)
    seed: int = 0
    cohort: Literal["adni", "aibl", "oasis1"] = Field(
        "adni", description="whose tables it imitates"
    )


class PreprocessingConfig(_Section):
    """Preprocessing of raw scans (`neuroaug.imaging`)."""

    profile: Literal["exact", "default", "fast"] = "default"
    n4_distance: Literal[200, 600] = 200
    template: str | None = None
    resolutions: tuple[Resolution, ...] = ("1mm", "2mm")
    timeout_s: float = Field(1800.0, gt=0)
    jobs: int = Field(1, ge=1, description="cluster jobs that the participants are dealt into")


class SplitConfig(_Section):
    """Test, train and validation sets (TPAMI 5.4)."""

    default: str = "train"
    n_test: int | float = 100
    validation: float = Field(0.2, gt=0, lt=1)
    subsets: tuple[int, ...] = (50,)
    seed: int = 0
    min_age: float | None = None


class GeneratorConfig(_Section):
    """One generative model (TPAMI Tables 11 and 12)."""

    network: Literal["conv3d", "mlp", "mlp-toy"] = "conv3d"
    model: Literal["rhvae", "vae"] = "rhvae"
    latent_dim: int = Field(10, ge=1)
    width: int = Field(
        16, ge=1, description="channels of the first convolution; sizes the conv3d networks"
    )
    n_leapfrog: int = Field(3, ge=1)
    step_size: float = Field(1e-3, gt=0)
    temperature: float = Field(1.5, gt=0)
    regularization: float = Field(1e-2, gt=0)
    beta_zero_sqrt: float = Field(0.3, gt=0, le=1)
    likelihood: Literal["bernoulli", "gaussian"] = "bernoulli"
    objective: Literal["published", "elbo"] = "published"
    second_order: bool = False
    learning_rate: float | None = Field(
        None,
        gt=0,
        description="null: 1e-5 for mlp (Table 12), 1e-3 for mlp-toy, the default of conv3d otherwise",
    )
    batch_size: int = Field(25, ge=1)
    accumulate: int = Field(1, ge=1)
    max_epochs: int = Field(1000, ge=1)
    patience: int = Field(50, ge=1)
    validate_every: int = Field(1, ge=1, description="epochs between evaluations of the ELBO")
    held_out: float = Field(
        0.0, ge=0, lt=1, description="fraction of the training participants kept for the ELBO"
    )
    precision: Literal["auto", "32", "bf16"] = "auto"
    scaling: Literal["min-max", "percentile"] = "min-max"
    seeds: tuple[int, ...] = (0,)


class SynthesisConfig(_Section):
    """Draws from a generator."""

    sampler: SamplerName = "hmc"
    profile: Literal["tuned", "paper"] = "tuned"
    seed: int = 0
    dtype: Literal["float32", "uint8"] = "float32"


class ClassifierSpec(_Section):
    """A classifier of the search space: its layers, and the optimiser's settings found with them."""

    n_blocks: int = Field(5, ge=1)
    first_filters: int = Field(8, ge=1)
    convolutions_per_block: int = Field(1, ge=1)
    n_fully_connected: int = Field(3, ge=1)
    dropout: float = Field(0.5, ge=0, lt=1)
    learning_rate: float = Field(1e-4, gt=0)
    weight_decay: float = Field(0.0, ge=0)


class EvaluationConfig(_Section):
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
        description="of the network that the search found; null: 50 (TPAMI 5.5), never more than epochs",
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


class SearchConfig(_Section):
    """Random search of the classifier (TPAMI 5.5)."""

    draws: int = Field(100, ge=1)
    folds: int = Field(5, ge=2)
    epochs: int = Field(50, ge=1)
    seed: int = 0
    jobs: int = Field(
        1, ge=1, description="jobs of the workflow that share the draws of one search"
    )


class ExternalConfig(_Section):
    """An external test cohort."""

    caps: str
    tables: str
    cohort: Literal["auto", "adni", "aibl", "oasis1"] = "auto"
    min_age: float | None = None


class StudyConfig(_Section):
    """``neuroaug.yaml``. Relative paths count from the study folder."""

    caps: str = "caps"
    bids: str | None = None
    tables: str = "bids"
    cohort: Literal["auto", "adni", "aibl", "oasis1"] = "auto"
    external: dict[str, ExternalConfig] = {}
    labels: tuple[Label, ...] = ("CN", "AD")
    resolution: Resolution = "2mm"
    phantom: PhantomConfig | None = None
    preprocessing: PreprocessingConfig = PreprocessingConfig()
    split: SplitConfig = SplitConfig()
    generator: GeneratorConfig = GeneratorConfig()
    synthesis: SynthesisConfig = SynthesisConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    search: SearchConfig = SearchConfig()

    @field_validator("labels")
    @classmethod
    def _distinct(cls, labels: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(labels)) != len(labels) or not labels:
            raise ValueError("labels must be distinct, and at least one")
        return labels

    @model_validator(mode="after")
    def _cells_parse(self) -> StudyConfig:
        try:
            self.cells()
        except InputError as error:
            raise ValueError(str(error)) from None
        return self

    def cell(self, name: str) -> Cell:
        """A cell from its full name, or from its ``<data>`` alone with this study's defaults.

        Raises
        ------
        InputError
            If the name does not follow the pattern, or there is no such network.
        """
        if re.fullmatch(_DATA, name):
            cell = Cell(
                split=self.split.default,
                network=self.evaluation.network,
                resolution=self.resolution,
                data=name,
                steps=self.evaluation.steps,
            )
        else:
            cell = Cell.parse(name)
        if cell.network.lower() not in CLASSIFIERS:
            raise InputError(
                f"cell '{name}': no network '{cell.network}'; choose one of {', '.join(CLASSIFIERS)}"
            )
        return cell

    def cells(self) -> tuple[Cell, ...]:
        """The cells asked for, in order, each once."""
        return tuple(dict.fromkeys(self.cell(name) for name in self.evaluation.cells))


def _known_keys(model: type[BaseModel], location: tuple[Any, ...]) -> list[str]:
    for part in location:
        field = model.model_fields.get(str(part))
        if field is None:
            return list(ExternalConfig.model_fields) if "external" in location else []
        kinds = [field.annotation, *getattr(field.annotation, "__args__", ())]
        sections = [k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)]
        if not sections:
            return list(ExternalConfig.model_fields) if part == "external" else []
        model = sections[0]
    return list(model.model_fields)


def _explain(error: ValidationError, source: str) -> str:
    first = error.errors()[0]
    location = first["loc"]
    where = ".".join(map(str, location)) or "the file"
    if first["type"] == "extra_forbidden":
        known = _known_keys(StudyConfig, location[:-1])
        near = difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0.0)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        return f"{source}: unknown key '{where}'{hint} (known: {', '.join(known)})"
    value = first.get("input")
    shown = f" (got {value!r})" if not isinstance(value, dict) else ""
    return f"{source}: {where}: {first['msg'].removeprefix('Value error, ')}{shown}"


def parse_config(content: dict[str, Any] | None, source: str = "neuroaug.yaml") -> StudyConfig:
    """Check a mapping against the schema.

    Raises
    ------
    InputError
        One line naming the key, what is wrong, and for an unknown key the nearest known one.
    """
    if content is not None and not isinstance(content, dict):
        raise InputError(f"{source}: expected keys and values, found {type(content).__name__}")
    try:
        return StudyConfig.model_validate(content or {})
    except ValidationError as error:
        raise InputError(_explain(error, source)) from None


def read_config(path: str | Path) -> StudyConfig:
    """Read ``neuroaug.yaml`` (or any YAML with its keys)."""
    import yaml

    path = Path(path)
    try:
        with reading(path, "a YAML file"):
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not readable as YAML ({' '.join(str(error).split())})") from None
    return parse_config(content, str(path))


def write_config(path: str | Path, config: BaseModel) -> None:
    """Write a resolved configuration as YAML, every default spelled out."""
    import yaml

    write_text(
        path, yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    )
