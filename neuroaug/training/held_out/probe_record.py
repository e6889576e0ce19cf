"""``probes.json`` beside a model: what its codes tell of validation people."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path

from neuroaug.system.files import read_json, sha256_file, write_json

FILE_NAME = "probes.json"


@dataclass(frozen=True)
class Probes:
    """What codes tell of validation people; NaN where it cannot be known.

    Attributes
    ----------
    rmse : float
        Root mean squared error of the reconstruction, intensities in [0, 1].
    age_r2 : float
        Share of the variance of age that a linear regression on codes explains.
    rule_auc : float
        AUC of the law's rule; NaN without a law.
    """

    rmse: float
    age_r2: float
    rule_auc: float


@dataclass(frozen=True)
class ProbedCodes:
    """Probes of a generator, and of principal components of as many.

    Attributes
    ----------
    codes, components : Probes
        Of the generator; of the components of the same training images.
    latent_dim : int
        d.
    n : int
        Validation people.
    """

    codes: Probes
    components: Probes
    latent_dim: int
    n: int

    def line(self) -> str:
        """Say it in one line."""
        pairs = [
            ("reconstruction error", self.codes.rmse, self.components.rmse, ".4f"),
            ("variance of age explained", self.codes.age_r2, self.components.age_r2, ".2f"),
            ("AUC of the law's rule", self.codes.rule_auc, self.components.rule_auc, ".3f"),
        ]
        told = [
            f"{what} {own:{form}} ({other:{form}})"
            for what, own, other, form in pairs
            if math.isfinite(own) and math.isfinite(other)
        ]
        return (
            f"codes on {self.n} validation people ({self.latent_dim} principal components in "
            f"brackets): {', '.join(told)}"
        )

    @property
    def worse(self) -> bool:
        """Whether new people are reconstructed worse than from components, by more than 1 %."""
        return self.codes.rmse > 1.01 * self.components.rmse


def write_probes(model_folder: Path, found: ProbedCodes) -> None:
    """Write ``probes.json`` beside a model."""
    content = asdict(found)
    for part in ("codes", "components"):
        content[part] = {k: v if math.isfinite(v) else None for k, v in content[part].items()}
    write_json(model_folder / FILE_NAME, {"model_sha256": _model(model_folder), **content})


def _model(folder: Path) -> str | None:
    path = folder / "config.json"
    return sha256_file(path) if path.is_file() else None


def read_probes(model_folder: Path) -> ProbedCodes | None:
    """Read the probes that lie beside a model; None where there are none of this very one."""
    path = model_folder / FILE_NAME
    if not path.is_file():
        return None
    content = read_json(path)
    if content.get("model_sha256") != _model(model_folder):
        return None
    codes, components = (
        Probes(**{k: math.nan if v is None else v for k, v in content[part].items()})
        for part in ("codes", "components")
    )
    return ProbedCodes(codes, components, content["latent_dim"], content["n"])
