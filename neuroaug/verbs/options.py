"""Options typed on the command line, laid over a study's defaults."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from neuroaug.config import (
    GeneratorConfig,
    PreprocessingConfig,
    Resolution,
    StudyConfig,
    parse_config,
)
from neuroaug.errors import InputError
from neuroaug.study import Study


def one_of(option: str, value: str | None, known: Sequence[str]) -> str | None:
    """`value` if it is known or None.

    Raises
    ------
    InputError
        Naming the known values.
    """
    if value is None or value in known:
        return value
    raise InputError(f"{option} {value}: unknown; choose one of {', '.join(known)}")


# Options that are not called like their setting.
_TYPED_AS = {"max_epochs": "epochs"}


def _update(section: Any, values: dict[str, Any]) -> Any:
    typed = {name: value for name, value in values.items() if value is not None}
    try:
        return type(section).model_validate({**section.model_dump(), **typed})
    except ValidationError as error:
        first = error.errors()[0]
        field = str(first["loc"][0])
        name = _TYPED_AS.get(field, field).replace("_", "-")
        raise InputError(f"--{name} {first.get('input')}: {first['msg']}") from None


def _number(option: str, text: str | None) -> int | float | None:
    if text is None:
        return None
    try:
        return int(text)
    except ValueError:
        try:
            return float(text)
        except ValueError:
            raise InputError(
                f"{option} {text}: a number of participants, or a fraction below 1"
            ) from None


def split_options(
    study: Study | None,
    n_test: str | None,
    validation: float | None,
    subset: list[int] | None,
    cohort: str | None,
    min_age: float | None,
    seed: int | None,
) -> StudyConfig:
    """The study's configuration with the typed options of ``neuroaug split``."""
    base = study.config if study is not None else StudyConfig()
    section = _update(
        base.split,
        {
            "n_test": _number("--n-test", n_test),
            "validation": validation,
            "subsets": tuple(subset) if subset else None,
            "min_age": min_age,
            "seed": seed,
        },
    )
    known = one_of("--cohort", cohort, ("auto", "adni", "aibl", "oasis1"))
    return base.model_copy(update={"split": section, "cohort": known or base.cohort})


def generator_options(
    study: Study | None,
    network: str | None,
    model: str | None,
    latent_dim: int | None,
    batch_size: int | None,
    epochs: int | None,
    learning_rate: float | None,
) -> GeneratorConfig:
    """The study's generator with the typed options of ``neuroaug train``."""
    base = study.config.generator if study is not None else GeneratorConfig()
    return _update(
        base,
        {
            "network": one_of("--network", network, ("conv3d", "mlp", "mlp-toy")),
            "model": one_of("--model", model, ("rhvae", "vae")),
            "latent_dim": latent_dim,
            "batch_size": batch_size,
            "max_epochs": epochs,
            "learning_rate": learning_rate,
        },
    )


def preprocessing_options(study: Study | None, values: dict[str, Any]) -> PreprocessingConfig:
    """The study's preprocessing with the typed options of ``neuroaug preprocess``."""
    base = study.config.preprocessing if study is not None else PreprocessingConfig()
    typed = dict(values)
    if typed.get("resolutions"):
        typed["resolutions"] = tuple(dict.fromkeys(("1mm", *typed["resolutions"])))
    one_of("--profile", typed.get("profile"), ("exact", "default", "fast"))
    if typed.get("n4_distance") not in (None, 200, 600):
        raise InputError(
            f"--n4-distance {typed['n4_distance']}: 200 (Clinica 0.12) or 600 (up to 0.11.3)"
        )
    return _update(base, typed)


def resolution_option(value: str | None) -> Resolution | None:
    """A resolution by name."""
    return one_of("--resolution", value, ("1mm", "2mm", "4mm"))  # type: ignore[return-value]


def override(config: StudyConfig, assignments: Sequence[str]) -> StudyConfig:
    """A configuration with some values replaced: ``evaluation.runs=5``, ``split.subsets=[20]``.

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
    import yaml

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
            if (
                place.get(section) is None
            ):  # a section that is off by default, or a misspelt one: parsing says which
                place[section] = {}
            place = place[section]
            if not isinstance(place, dict):
                raise InputError(f"--set {assignment}: '{section}' holds a value, not keys")
        place[name] = value
    return parse_config(content, "--set") if assignments else config
