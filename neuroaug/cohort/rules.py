"""Conventions of the published cohorts: ADNI, AIBL and OASIS-1 (TPAMI sec. 5.2)."""

from __future__ import annotations

from neuroaug.config import PUBLISHED_LABELS

COHORTS = ("adni", "aibl", "oasis1")
ID_PREFIXES = {"sub-ADNI": "adni", "sub-AIBL": "aibl", "sub-OASIS1": "oasis1"}

LABELS = PUBLISHED_LABELS
NORMAL, PATIENT = LABELS
DIAGNOSES = {"CN": "CN", "MCI": "MCI", "EMCI": "MCI", "LMCI": "MCI", "AD": "AD", "DEMENTIA": "AD"}
# Spellings of one diagnosis, as releases differ; EMCI and LMCI are stages, which someone may want.
SYNONYMS = {"dementia": PATIENT}
EXPECTED_DIAGNOSES = "CN, MCI or AD (or Dementia)"
# OASIS-1 has controls of all ages and patients of 62 and older only: without a bound, the label is
# age.
DEFAULT_MIN_AGE = {"adni": 0.0, "aibl": 0.0, "oasis1": 62.0}
CLINICAL_RATINGS = (0, 0.5, 1, 2, 3)


def rated(cdr: float) -> str:
    """Label of a clinical dementia rating: normal for 0, a patient above."""
    return PATIENT if cdr > 0 else NORMAL
