"""Who is in the phantom cohort: people, their diagnoses over time, and the tables that say so.

The tables have the columns that Clinica's converters write for ADNI, AIBL and OASIS-1. Nothing in
them comes from a person: every value is drawn.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from neuroaug.config.stage_settings import PHANTOM_SEVERITY

COHORTS = ("adni", "aibl", "oasis1")
SITES = ("901", "902", "903")

# Mean of the latent severity of atrophy, in standard deviations between people of one diagnosis.
# AD is calibrated so that linear discriminant analysis of the TRUE ventricle volume separates
# it from CN with a balanced accuracy near .80 (docs/phantom.md); augmentation was not looked at.
SEVERITY = {"CN": 0.0, "SMC": 0.1, "CN-MCI": 0.5, "MCI": 0.9, "MCI-AD": 1.5, "AD": PHANTOM_SEVERITY}


@dataclass(frozen=True)
class Person:
    """One phantom participant.

    Attributes
    ----------
    participant_id : str
        BIDS name.
    number : int
        Place in the cohort, from 1; with the seed, it fixes the scan.
    course : str
        Key of `SEVERITY`: the diagnosis, or its change.
    sex : {"M", "F"}
        Women's heads are a little smaller.
    age : float
        Years at baseline.
    site : str
        One of `SITES`.
    unreadable : bool
        Whether the scan's file is truncated on purpose.
    ratios : dict of str to float
        Volume of each structure over the average head's.
    diagnoses : dict of int to (str or None)
        Months after baseline -> CN, MCI, AD, or None where it is missing.
    mmse : dict of int to int
        Months after baseline -> score of the mini-mental state examination.
    apoe4 : int
        Number of epsilon-4 alleles, 0 to 2.
    """

    participant_id: str
    number: int
    course: str
    sex: str
    age: float
    site: str
    unreadable: bool
    ratios: dict[str, float]
    diagnoses: dict[int, str | None]
    mmse: dict[int, int] = field(default_factory=dict)
    apoe4: int = 0

    @property
    def screening(self) -> str:
        """Diagnosis at screening, in ADNI's words."""
        start = self.course.split("-")[0]
        return {"MCI": "LMCI" if self.number % 2 else "EMCI"}.get(start, start)


def courses(n: int, rng: np.random.Generator) -> list[str]:
    """Give each of `n` participants a course, shuffled: half stable CN, half stable AD, few others.

    From 24 participants on, each started 48 bring one SMC, one stable MCI, two CN -> MCI and two
    MCI -> AD; from 10 on, one CN -> MCI; fewer are all stable.
    """
    others: list[str] = []
    if n >= 24:
        others = ["SMC", "MCI", "CN-MCI", "CN-MCI", "MCI-AD", "MCI-AD"] * -(-n // 48)
    elif n >= 10:
        others = ["CN-MCI"]
    stable = n - len(others)
    named = others + ["CN"] * (stable - stable // 2) + ["AD"] * (stable // 2)
    return [named[i] for i in rng.permutation(n)]


def _diagnoses(course: str, number: int, rng: np.random.Generator) -> dict[int, str | None]:
    start, _, end = course.partition("-")
    start = {"SMC": "CN"}.get(start, start)
    end = end or start
    months = [0, 12, 24, 36][: int(rng.integers(3, 5) if start != end else rng.integers(1, 5))]
    found: dict[int, str | None] = {
        month: start if i < len(months) / 2 else end for i, month in enumerate(months)
    }
    # Some visits have no diagnosis: between two equal ones it can be filled, at the end it cannot.
    every = {1: 0, 2: 5}.get(len(months), 3)
    if start == end and every and number % every == 0:
        found[months[1]] = None
    return found


def _ratios(severity: float, rng: np.random.Generator) -> dict[str, float]:
    """Volume ratios of one person: a shared severity and each structure's own variation."""
    own = rng.normal(size=3)
    return {
        "ventricles": float(np.clip(np.exp(0.45 + 0.30 * severity + 0.25 * own[0]), 0.75, 4.5)),
        "hippocampus": float(np.clip(np.exp(-0.02 - 0.07 * severity + 0.07 * own[1]), 0.60, 1.10)),
        "cortex": float(np.clip(np.exp(-0.02 - 0.02 * severity + 0.02 * own[2]), 0.82, 1.04)),
    }


def make_people(n: int, seed: int, severity: float = PHANTOM_SEVERITY) -> list[Person]:
    """Draw the participants: a function of the arguments alone.

    Age and sex overlap between the diagnoses; one stable control's scan is to be unreadable when
    there are at least four participants.

    Parameters
    ----------
    n : int
        How many.
    seed : int
        Of everything random; people of one seed differ between severities in their anatomy alone.
    severity : float
        Mean severity of stable AD over stable CN, in standard deviations between people of one
        diagnosis; the other courses keep their place between the two.
    """
    scale = severity / PHANTOM_SEVERITY
    rng = np.random.default_rng([seed, n])
    plan = courses(n, rng)
    broken = next((i for i, course in enumerate(plan) if course == "CN"), None) if n >= 4 else None
    people = []
    seen: dict[str, int] = {}
    for i, course in enumerate(plan):
        own = np.random.default_rng([seed, n, i])
        # Sites in turn within a course: site says nothing about the diagnosis.
        site = SITES[
            (seen.setdefault(course, int(rng.integers(3))) + sum(c == course for c in plan[:i])) % 3
        ]
        older = course in ("AD", "MCI-AD")
        age = float(np.clip(own.normal(75 if older else 73.5, 6.5), 56, 90).round(1))
        own_severity = scale * SEVERITY[course] + own.normal() + 0.4 * (age - 74) / 6.5
        diagnoses = _diagnoses(course, i, own)
        drop = {"CN": 0.4, "MCI": 2.5, "AD": 6.5, None: 1.0}
        mmse = {
            m: int(np.clip(round(29.4 - abs(own.normal(drop[d], 1.2))), 5, 30))
            for m, d in diagnoses.items()
        }
        people.append(
            Person(
                participant_id=f"sub-phantom{SITES.index(site) + 1:03d}S{i + 1:04d}",
                number=i + 1,
                course=course,
                sex="M" if own.random() < 0.5 else "F",
                age=age,
                site=site,
                unreadable=i == broken,
                ratios=_ratios(own_severity, own),
                diagnoses=diagnoses,
                mmse=mmse,
                apoe4=int(own.binomial(2, 0.35 if older else 0.15)),
            )
        )
    return people


def session_id(month: int) -> str:
    """``0`` -> ``ses-M000``."""
    return f"ses-M{month:03d}"


def _cdr(diagnosis: str | None, number: int) -> tuple[str | None, str | None]:
    if diagnosis is None:
        return None, None
    scale = {
        "CN": ("0.0", "0.0"),
        "MCI": ("0.5", "1.5"),
        "AD": ("1.0", "5.0") if number % 3 else ("0.5", "4.0"),
    }
    return scale[diagnosis]


def participants_table(people: list[Person], cohort: str) -> pd.DataFrame:
    """``participants.tsv`` as Clinica writes it for the cohort."""
    rows = []
    for person in people:
        row = {
            "participant_id": person.participant_id,
            "alternative_id_1": f"phantom_{person.participant_id.removeprefix('sub-phantom')}",
            "sex": person.sex,
        }
        if cohort == "adni":
            row |= {
                "age_bl": f"{person.age:.1f}",
                "diagnosis_sc": person.screening,
                "site": person.site,
                "original_study": "phantom",
                "mmse_bl": str(person.mmse[0]),
                "apoe4": str(person.apoe4),
            }
        elif cohort == "aibl":
            row |= {
                "date_of_birth": f"/{2010 - int(person.age)}",
                "site": person.site,
                "apoe_gen1": "4" if person.apoe4 > 0 else "3",
                "apoe_gen2": "4" if person.apoe4 > 1 else "3",
            }
        else:
            start = person.diagnoses[0]
            row |= {
                "age_bl": f"{person.age:.0f}",
                "education_level": str(1 + person.number % 5),
                "laterality": "R",
                "diagnosis_bl": "CN" if start == "CN" else "AD",
            }
        rows.append(row)
    return pd.DataFrame(rows)


def sessions_table(person: Person, cohort: str) -> pd.DataFrame:
    """``sub-X_sessions.tsv`` as Clinica writes it for the cohort; one row per visit."""
    rows = []
    months = [0] if cohort == "oasis1" else list(person.diagnoses)
    for month in months:
        diagnosis = person.diagnoses[month]
        overall, boxes = _cdr(diagnosis, person.number)
        row: dict[str, str | None] = {"session_id": session_id(month)}
        if cohort == "adni":
            row |= {
                "age": f"{person.age + month / 12:.1f}",
                "diagnosis": diagnosis,
                "MMSE": str(person.mmse[month]),
                "cdr_global": overall,
                "cdr_sb": boxes,
            }
        elif cohort == "aibl":
            row |= {
                "age": f"{person.age + month / 12:.0f}",
                "diagnosis": diagnosis,
                "MMS": str(person.mmse[month]),
                "cdr_global": overall,
            }
        else:
            # As the converter does: only whole CDRs become a diagnosis.
            whole = {"0.0": "CN", "1.0": "AD"}.get(overall or "")
            row |= {"diagnosis": whole, "cdr_global": overall, "MMS": str(person.mmse[month])}
        rows.append(row)
    return pd.DataFrame(rows)
