"""Settings of the law of anatomy: covariates, and what is believed of the labels' difference."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from neuroaug.config.section import ConfigSection

Covariate = Literal["age", "sex"]


class LawConfig(ConfigSection):
    """``law:`` codes as effects of covariates, a label's shift and the person's rest.

    Attributes
    ----------
    covariates : tuple of {"age", "sex"}
        Columns of the split whose effects are estimated; synthetic people draw them independently
        of their label.
    prior : {"none", "age"}
        What the labels' shifts are drawn towards: nothing, or so many years of ageing.
    years : dict of str to float
        Years that the brains of a label look older, for ``prior: age``; labels not named: 0.
    strength : tuple of float
        What the prior is worth in people a label; several: averaged over.
    ridge : tuple of float
        Share of the mean variance that is added to every variance of the rest; several: averaged
        over.
    """

    covariates: tuple[Covariate, ...] = ("age",)
    prior: Literal["none", "age"] = "none"
    years: dict[str, float] = Field(default_factory=dict)
    strength: tuple[float, ...] = (30.0,)
    ridge: tuple[float, ...] = (1.0,)

    @field_validator("strength", "ridge", mode="before")
    @classmethod
    def _one_or_several(cls, value: object) -> object:
        return (value,) if isinstance(value, int | float) else value

    @field_validator("strength", "ridge")
    @classmethod
    def _not_below_nought(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if not values or any(value < 0 for value in values):
            raise ValueError("numbers of 0 or more, at least one")
        return values

    @field_validator("covariates")
    @classmethod
    def _each_once(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(names)) != len(names):
            raise ValueError("each covariate once")
        return names

    @model_validator(mode="after")
    def _prior_has_what_it_needs(self) -> LawConfig:
        if self.prior == "age" and "age" not in self.covariates:
            raise ValueError("prior: age needs age among the covariates")
        if self.prior == "age" and len(set(self.years.values()) | {0.0}) < 2:
            raise ValueError(
                "prior: age needs years: {LABEL: years that its brains look older}, not all 0"
            )
        if self.prior == "none" and self.years:
            raise ValueError("years are for prior: age")
        return self
