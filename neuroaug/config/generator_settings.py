"""Settings of a generative model: those of every family, and those of its own."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import (
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic_core import PydanticCustomError

from neuroaug.config.section import ConfigSection, registered
from neuroaug.errors import InputError
from neuroaug.registries import FAMILIES, NETWORKS

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

LATER_SETTINGS = ("shared", "unlabelled", "stopping", "folds", "start", "texture")
"""Settings that are written only where they differ from their default, which is what was before."""

FAMILY_SETTING = "family_setting"


class GeneratorConfig(ConfigSection):
    """What every generative model is asked (TPAMI Tables 11 and 12).

    A family has settings of its own beside these; they stand in its file, as a subclass of
    `FamilySettings`. Typed here, they are checked by that class, and only then is its file (and
    torch) loaded.
    """

    model_config = ConfigDict(extra="allow")

    network: str = "conv3d"
    model: str = "rhvae"
    latent_dim: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        10, description="auto: the number of components with the best density of people left out"
    )
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
    shared: bool = Field(
        False, description="one encoder and decoder, learned from the people of all labels"
    )
    unlabelled: str | None = Field(
        None, description="TSV of visits without a label that a shared one learns from too"
    )

    stopping: Literal["training", "held-out", "cross-validated"] | None = Field(
        None,
        description="whose ELBO says when to stop: the training images' (as the papers), those of "
        "held_out, or those of folds, before a training on all; null: as held_out says",
    )
    folds: int = Field(
        3, ge=2, description="of participants, for stopping: cross-validated and latent_dim: auto"
    )
    start: Literal["random", "components"] = Field(
        "random", description="components: encoder and decoder start as principal components"
    )

    texture: int = Field(
        0, ge=0, description="mixtures of what latents miss, drawn into every image; 0: none"
    )

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without what came later it is written as before there was any: keys and bytes stay."""
        content: dict[str, Any] = handler(self)
        for name in LATER_SETTINGS:
            if name in content and content[name] == GeneratorConfig.model_fields[name].default:
                del content[name]
        return content

    @model_validator(mode="after")
    def _unlabelled_where_shared(self) -> GeneratorConfig:
        if self.unlabelled is not None and not self.shared:
            raise ValueError("unlabelled: only a generator with shared: true learns from them")
        return self

    @model_validator(mode="after")
    def _held_out_as_stopping_says(self) -> GeneratorConfig:
        if self.stopping == "held-out" and self.held_out == 0:
            raise ValueError("stopping: held-out needs held_out, the share to keep, as 0.1")
        if self.stopping in ("training", "cross-validated") and self.held_out > 0:
            raise ValueError(f"stopping: {self.stopping} keeps nobody out; held_out must be 0")
        return self

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
        return registered(FAMILIES, name)

    @field_validator("network")
    @classmethod
    def _known_network(cls, name: str) -> str:
        return registered(NETWORKS, name)

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

    @property
    def n_latents(self) -> int:
        """d; ``latent_dim: auto`` has none before training settles it."""
        if self.latent_dim == "auto":
            raise ValueError("latent_dim: auto is settled by training")
        return self.latent_dim

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
