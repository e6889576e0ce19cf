"""What every section of a configuration is made of."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from neuroaug.errors import InputError
from neuroaug.registries import Registry

PUBLISHED_LABELS = ("CN", "AD")  # of the cohorts of the papers: negative, positive
PUBLISHED_WORDS = {"CN": "cognitively normal (CN)", "AD": "Alzheimer's disease (AD)"}
Resolution = Literal["1mm", "2mm", "4mm"]
Steps = Literal["epochs", "matched"]


class ConfigSection(BaseModel):
    """A frozen group of settings; unknown ones are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


def registered(registry: Registry[Any], name: str) -> str:
    """Give `name` back if it is registered, for a validator."""
    try:
        return registry.require(name)
    except InputError as error:
        raise ValueError(str(error)) from None
