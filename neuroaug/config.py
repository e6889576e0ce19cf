"""What is asked of each stage: frozen pydantic models, read from ``neuroaug.yaml``.

Every key has a default; an unknown key is refused with the nearest known one.
"""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import PydanticCustomError

from neuroaug.errors import InputError
from neuroaug.registries import FAMILIES, NETWORKS, SAMPLERS, Registry
from neuroaug.system.files import write_text

Label = Literal["CN", "AD"]
Resolution = Literal["1mm", "2mm", "4mm"]
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


VERSION_1_SETTINGS: dict[str, Any] = {
    "n_leapfrog": 3,
    "step_size": 1e-3,
    "temperature": 1.5,
    "regularization": 1e-2,
    "beta_zero_sqrt": 0.3,
    "objective": "published",
    "second_order": False,
}
"""Settings, with their defaults, that version 1 of the configuration had for every family. They are
an RHVAE's; keys of jobs and identities of models still count them for both families of then."""

FAMILY_SETTING = "family_setting"


def _registered(registry: Registry[Any], name: str) -> str:
    try:
        return registry.require(name)
    except InputError as error:
        raise ValueError(str(error)) from None


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
    """What every generative model is asked (TPAMI Tables 11 and 12).

    A family has settings of its own beside these; they stand in its file, as a subclass of
    `FamilySettings`. Typed here, they are checked by that class, and only then is its file (and
    torch) loaded.
    """

    model_config = ConfigDict(extra="allow")

    network: str = "conv3d"
    model: str = "rhvae"
    latent_dim: int = Field(10, ge=1)
    width: int = Field(
        16, ge=1, description="channels of the first convolution; sizes the conv3d networks"
    )
    likelihood: Literal["bernoulli", "gaussian"] = "bernoulli"
    learning_rate: float | None = Field(None, gt=0, description="null: the network's own")
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

    @model_validator(mode="before")
    @classmethod
    def _of_version_1(cls, content: Any) -> Any:
        """Leave out what version 1 spelled out for every family, in its resolved copies."""
        if not isinstance(content, dict) or not content.keys() >= VERSION_1_SETTINGS.keys():
            return content
        return {
            name: value
            for name, value in content.items()
            if name not in VERSION_1_SETTINGS
            or (content.get("model") != "vae" and value != VERSION_1_SETTINGS[name])
        }

    @field_validator("model")
    @classmethod
    def _known_family(cls, name: str) -> str:
        return _registered(FAMILIES, name)

    @field_validator("network")
    @classmethod
    def _known_network(cls, name: str) -> str:
        return _registered(NETWORKS, name)

    @model_validator(mode="after")
    def _own_settings(self) -> GeneratorConfig:
        if self.model_extra:
            name, message, known = self._misfit()
            if message:
                context = {"message": message, "name": name, "known": known}
                raise PydanticCustomError(FAMILY_SETTING, "{message}", context)
        return self

    def _misfit(self) -> tuple[str, str, list[str]]:
        """Setting that the family does not accept, why ("" if all is well), and its settings."""
        family = FAMILIES.get(self.model).Settings
        try:
            family.model_validate(self.model_dump())
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(map(str, first["loc"]))
            message = first["msg"].removeprefix("Value error, ")
            if first["type"] == "extra_forbidden":
                others = [
                    m for m in FAMILIES.names if name in FAMILIES.get(m).Settings.model_fields
                ]
                owners = f", but of {', '.join(others)}" if others else ""
                message = f"not a setting of model {self.model}{owners}"
            return name, message, list(family.model_fields)
        return "", "", []

    def resolved(self) -> FamilySettings:
        """Every setting of the family, those of its own included.

        Raises
        ------
        InputError
            If a setting is not one of the family's, or its value does not fit.
        """
        name, message, _ = self._misfit()
        if message:
            raise InputError(f"generator.{name}: {message}")
        settings: FamilySettings = FAMILIES.get(self.model).Settings.model_validate(
            self.model_dump()
        )
        return settings

    def fingerprint(self) -> dict[str, Any]:
        """Settings as they enter keys and identities: without seeds, spelled as in version 1."""
        spelled = self.model_dump(mode="json", exclude={"seeds"})
        return {**VERSION_1_SETTINGS, **spelled} if self.model in ("rhvae", "vae") else spelled


class FamilySettings(GeneratorConfig):
    """All settings of one family; a subclass in the family's file adds its own."""

    model_config = ConfigDict(extra="forbid")

    def for_images(self, n_images: int) -> Self:
        """Spell out what depends on the number of training images."""
        return self


class SynthesisConfig(_Section):
    """Samples of a generator."""

    sampler: str = "hmc"
    profile: Literal["tuned", "paper"] = "tuned"
    seed: int = 0
    dtype: Literal["float32", "uint8"] = "float32"

    @field_validator("sampler")
    @classmethod
    def _known_sampler(cls, name: str) -> str:
        return _registered(SAMPLERS, name)


class ClassifierSpec(_Section):
    """A classifier of the search space: its layers, and the optimiser's settings found with it."""

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
                f"cell '{name}': no network '{cell.network}'; "
                f"choose one of {', '.join(CLASSIFIERS)}"
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
    known: list[str] | None = None
    if first["type"] == FAMILY_SETTING:
        context = first["ctx"]
        where = f"{where}.{context['name']}"
        if "but of" in context["message"] or context["name"] in context["known"]:
            return f"{source}: {where}: {context['message']}"
        location, known = (*location, context["name"]), context["known"]
    if first["type"] == "extra_forbidden":
        known = _known_keys(StudyConfig, location[:-1])
    if known is not None:
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
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise InputError(f"{path}: a folder, where a YAML file is expected") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not readable as YAML ({' '.join(str(error).split())})") from None
    return parse_config(content, str(path))


def write_config(path: str | Path, config: BaseModel) -> None:
    """Write a resolved configuration as YAML, every default spelled out."""
    import yaml

    write_text(
        path, yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    )
