"""A rehearsal: every cell and stage of a configuration, on phantoms, cut down to minutes.

Before weeks of a cluster are spent on a grid of cells, one wants to see that each of them runs to
the end. What it finds means nothing: two runs of one or two epochs on a handful of phantoms.
"""

from __future__ import annotations

from neuroaug.config import StudyConfig
from neuroaug.workflow.stages import STAGES


def rehearse(config: StudyConfig) -> tuple[StudyConfig, list[str]]:
    """Cut a configuration down, section by section as its stages say.

    Parameters
    ----------
    config : StudyConfig
        Configuration of the study that is to be run.

    Returns
    -------
    config : StudyConfig
        Phantoms in the layout of the same cohort; every resolution one step coarser, every training
        subset and number of synthetic images replaced by a small one (the order stays), two runs of
        a cell, one or two epochs, a search of two trials. Cells stay as many, unless two become one
        by this.
    notes : list of str
        Lines that say what was left out.
    """
    small = config.model_dump()
    for stage in STAGES:
        small |= stage.rehearsal(config)
    notes = ["rehearsal: phantoms, and sizes cut down; what comes out means nothing"]
    if config.external:
        notes.append(
            f"rehearsal: the external test sets ({', '.join(config.external)}) are left out"
        )
    return StudyConfig.model_validate(small), notes
