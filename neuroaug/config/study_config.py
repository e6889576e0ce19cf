"""A study's configuration as a whole: ``neuroaug.yaml`` read, checked and written."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Any, Literal

from pydantic import (
    BaseModel,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from neuroaug.config.cell import CLASSIFIERS, DATA_PATTERN, Cell
from neuroaug.config.generator_settings import FAMILY_SETTING, GeneratorConfig
from neuroaug.config.label_settings import CUSTOM, LabelRules
from neuroaug.config.law_settings import LawConfig
from neuroaug.config.section import PUBLISHED_LABELS, PUBLISHED_WORDS, ConfigSection, Resolution
from neuroaug.config.stage_settings import (
    CurveConfig,
    EvaluationConfig,
    PhantomConfig,
    PreprocessingConfig,
    SearchConfig,
    SplitConfig,
    SynthesisConfig,
)
from neuroaug.errors import InputError
from neuroaug.system.files import reading, write_text

CohortName = Literal["auto", "adni", "aibl", "oasis1", "custom"]


class ExternalConfig(ConfigSection):
    """An external test cohort."""

    caps: str
    tables: str
    cohort: CohortName = "auto"
    min_age: float | None = None
    labels: LabelRules | None = Field(
        None, description="of a custom cohort whose tables are not like the study's"
    )

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without rules of its own it is written as before there were any: keys of jobs stay."""
        content: dict[str, Any] = handler(self)
        if self.labels is None:
            content.pop("labels", None)
        return content


class StudyConfig(ConfigSection):
    """``neuroaug.yaml``. Relative paths count from the study folder."""

    caps: str = "caps"
    bids: str | None = None
    tables: str = "bids"
    cohort: CohortName = "auto"
    external: dict[str, ExternalConfig] = Field(default_factory=dict)
    labels: tuple[str, ...] | LabelRules = PUBLISHED_LABELS
    resolution: Resolution = "2mm"
    phantom: PhantomConfig | None = None
    preprocessing: PreprocessingConfig = PreprocessingConfig()
    split: SplitConfig = SplitConfig()
    generator: GeneratorConfig = GeneratorConfig()
    law: LawConfig | None = Field(
        None, description="of codes; null: each label's own, whatever the covariates"
    )
    synthesis: SynthesisConfig = SynthesisConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    search: SearchConfig = SearchConfig()
    curve: CurveConfig = CurveConfig()

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without what came later it is written as before there was any."""
        content: dict[str, Any] = handler(self)
        if self.law is None:
            content.pop("law", None)
        if self.curve == CurveConfig():
            content.pop("curve", None)
        return content

    @field_validator("labels", mode="before")
    @classmethod
    def _names_or_rules(cls, labels: Any) -> Any:
        """Choose between the two forms here, so that a message is about the form that is meant."""
        if isinstance(labels, dict):
            return LabelRules.model_validate(labels)
        if isinstance(labels, LabelRules):
            return labels
        if not isinstance(labels, list | tuple):
            raise ValueError("expected a list of labels, or the rules of a custom cohort")
        for name in labels:
            if name not in PUBLISHED_LABELS:
                known = " and ".join(PUBLISHED_LABELS)
                raise ValueError(
                    f"label '{name}': a list names {known}; labels of your own need cohort: custom "
                    "and the rules that give them (column, values, positive)"
                )
        if len(set(labels)) != len(labels) or not labels:
            raise ValueError("labels must be distinct, and at least one")
        return tuple(labels)

    @model_validator(mode="after")
    def _rules_where_custom(self) -> StudyConfig:
        ruled = isinstance(self.labels, LabelRules)
        if ruled and self.cohort not in ("auto", CUSTOM):
            raise ValueError(f"labels: rules of one's own, but cohort is {self.cohort}; use custom")
        if self.cohort == CUSTOM and not ruled:
            raise ValueError(
                "cohort: custom needs labels: {column: ..., values: {...}, positive: ...}"
            )
        return self

    @model_validator(mode="after")
    def _law_needs_one_anatomy(self) -> StudyConfig:
        if self.law is None:
            return self
        if not self.generator.shared:
            raise ValueError("law: needs generator: {shared: true}: one anatomy for all labels")
        if strange := sorted(set(self.law.years) - set(self.label_names)):
            known = ", ".join(self.label_names)
            raise ValueError(f"law: years of {strange[0]}, which is no label ({known})")
        return self

    @property
    def label_names(self) -> tuple[str, ...]:
        """Labels of the study; a generator is learned for each."""
        return self.labels.names if isinstance(self.labels, LabelRules) else self.labels

    @property
    def label_rules(self) -> LabelRules | None:
        """Rules of a custom cohort; None for the published ones, which have their own."""
        return self.labels if isinstance(self.labels, LabelRules) else None

    @property
    def classes(self) -> tuple[str, str]:
        """Negative and positive class of the evaluation.

        Raises
        ------
        InputError
            If the labels are more than two and the negative one is not named, or only one.
        """
        rules = self.label_rules
        if rules is None:
            return PUBLISHED_LABELS
        if rules.other is None:
            known = ", ".join(rules.names)
            advice = "a classifier needs two" if len(rules.names) == 1 else "name labels.negative"
            raise InputError(f"labels {known}: which one is told from {rules.positive}? {advice}")
        return rules.other, rules.positive

    @property
    def positive(self) -> str:
        """Positive class."""
        rules = self.label_rules
        return PUBLISHED_LABELS[1] if rules is None else rules.positive

    @property
    def class_labels(self) -> tuple[str, ...]:
        """The study's labels that are told apart, in its order; generators are drawn from for them.

        Raises
        ------
        InputError
            See `classes`.
        """
        return tuple(label for label in self.label_names if label in self.classes)

    @property
    def ordered_labels(self) -> tuple[str, ...]:
        """Labels as tables list them: negative, positive, then the others."""
        rules = self.label_rules
        if rules is None:
            return PUBLISHED_LABELS
        first = (rules.other or rules.positive, rules.positive)
        return tuple(dict.fromkeys((*first, *rules.names)))

    @property
    def question(self) -> str:
        """What the evaluation tells apart, in words."""
        negative, positive = self.classes
        words = PUBLISHED_WORDS if self.label_rules is None else {}
        return f"{words.get(positive, positive)} against {words.get(negative, negative)}"

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
        if re.fullmatch(DATA_PATTERN, name):
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
        return cell.checked()

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

    with reading(path, "YAML", malformed=(yaml.YAMLError, UnicodeDecodeError)):
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    return parse_config(content, str(path))


def write_config(path: str | Path, config: BaseModel) -> None:
    """Write a resolved configuration as YAML, every default spelled out."""
    import yaml

    write_text(
        path, yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    )
