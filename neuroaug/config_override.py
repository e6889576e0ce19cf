"""Values of a configuration replaced from the command line: ``--set KEY=VALUE``."""

from __future__ import annotations

from collections.abc import Sequence

import yaml

from neuroaug.config import StudyConfig, parse_config
from neuroaug.errors import InputError


def override(config: StudyConfig, assignments: Sequence[str]) -> StudyConfig:
    """Replace values of a configuration: ``evaluation.runs=5``, ``split.subsets=[20]``.

    Parameters
    ----------
    config : StudyConfig
        What is altered.
    assignments : sequence of str
        ``KEY=VALUE``; a dotted key as in the YAML file, the value as YAML.

    Raises
    ------
    InputError
        No ``=``, an unknown key, or a value that does not fit.
    """
    content = config.model_dump(mode="json")
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not key:
            raise InputError(f"--set {assignment}: expected KEY=VALUE, such as evaluation.runs=5")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            raise InputError(f"--set {assignment}: the value is not readable as YAML") from None
        *sections, name = key.split(".")
        place = content
        for section in sections:
            # A section that is off by default, or a misspelt one: parsing says which.
            if place.get(section) is None:
                place[section] = {}
            place = place[section]
            if not isinstance(place, dict):
                raise InputError(f"--set {assignment}: '{section}' holds a value, not keys")
        place[name] = value
    return parse_config(content, "--set") if assignments else config
