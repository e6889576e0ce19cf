"""Labels of a cohort that is none of the published ones: whose value of which column they are."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from neuroaug.config.section import ConfigSection

CUSTOM = "custom"
UNLABELLED = "unlabelled"
"""In place of a label: a visit that a shared generator learned from without one."""
_NAME = re.compile(r"[A-Za-z0-9]+")


class LabelRules(ConfigSection):
    """``labels:`` of a ``cohort: custom``: which values of a column give which label.

    Attributes
    ----------
    column : str
        Column that tells the label.
    file : str
        Table that holds it: a file of the tables' folder (a phenotype table, say).
    values : dict of str to tuple of str
        Label: the values of the column that mean it. Rows with another value are left out by rule.
    positive, negative : str
        Classes of ``evaluate``: sensitivity is that of the positive one. With two labels, the
        negative one is the other.
    changing : {"exclude", "first"}
        What becomes of a participant whose label changes between sessions: left out by rule, or
        labelled by the first session that has an image and a label.
    """

    column: str = Field(min_length=1)
    file: str = "participants.tsv"
    values: dict[str, tuple[str, ...]] = Field(min_length=1)
    positive: str
    negative: str | None = None
    changing: Literal["exclude", "first"] = "exclude"

    @field_validator("values", mode="before")
    @classmethod
    def _texts(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        return {str(label): _as_texts(label, value) for label, value in values.items()}

    @field_validator("values")
    @classmethod
    def _one_label_a_value(cls, values: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        named: dict[str, str] = {}
        for label, meant in values.items():
            if not _NAME.fullmatch(label):
                raise ValueError(f"label '{label}': letters and digits only, as HC or MDD")
            if label == UNLABELLED:
                raise ValueError(f"label '{label}': this word is kept for visits without one")
            if not meant:
                raise ValueError(f"label '{label}' has no value; give it one at least")
            for value in meant:
                other = named.setdefault(value.strip().casefold(), label)
                if other != label:
                    raise ValueError(f"value '{value}' means both {other} and {label}; keep one")
        folded = [label.casefold() for label in values]
        if len(set(folded)) < len(folded):
            raise ValueError("two labels differ by upper and lower case only; rename one")
        return values

    @model_validator(mode="after")
    def _classes_are_labels(self) -> LabelRules:
        for name, label in (("positive", self.positive), ("negative", self.negative)):
            if label is not None and label not in self.values:
                known = ", ".join(self.values)
                raise ValueError(f"{name} '{label}' is not one of the labels ({known})")
        if self.positive == self.negative:
            raise ValueError(f"positive and negative are both '{self.positive}'")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Labels, in the order in which they are written."""
        return tuple(self.values)

    @property
    def other(self) -> str | None:
        """Negative class: the one named, else the other of two labels, else None."""
        rest = [label for label in self.values if label != self.positive]
        return self.negative or (rest[0] if len(rest) == 1 else None)


def _as_texts(label: Any, value: Any) -> tuple[str, ...]:
    values = value if isinstance(value, list | tuple) else [value]
    for one in values:
        if isinstance(one, bool):  # YAML reads no and yes, on and off, so
            raise ValueError(f"label '{label}': YAML reads a value as {one}; write it in quotes")
        if not isinstance(one, str | int | float):
            raise ValueError(f"label '{label}': a value, or a list of values, is expected")
    return tuple(str(one) for one in values)
