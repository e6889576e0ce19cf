"""The embedded cohort: a raw BIDS folder of phantom heads, made in place from a seed.

For the demo and the tests, which have no patient data. A participant's files depend on the seed and
the participant alone, so an interrupted generation continues and any number of processes
gives the same bytes. Everything it writes says "phantom".
"""

from __future__ import annotations

import gzip
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from neuroaug import __version__
from neuroaug.errors import InputError
from neuroaug.imaging.bids import (
    BIDS_VERSION,
    DESCRIPTION,
    PARTICIPANTS,
    Visit,
    sessions_path,
    sidecar_path,
    t1w_path,
)
from neuroaug.phantom import phantom_tables as tables
from neuroaug.phantom.phantom_tables import Person
from neuroaug.system.files import (
    read_json,
    remove_leftovers,
    write_bytes,
    write_json,
    write_text,
    write_tsv,
)
from neuroaug.system.progress import progress

SESSION = "ses-M000"
# Changes whenever the images would: an older folder is then not continued.
RECIPE = 1


@dataclass(frozen=True)
class PhantomSummary:
    """What `make_cohort` did.

    Attributes
    ----------
    folder : Path
        The raw BIDS folder.
    n_made, n_present : int
        Scans written now, and scans that were there already.
    unreadable : tuple of str
        Participants whose scan is broken on purpose.
    """

    folder: Path
    n_made: int
    n_present: int
    unreadable: tuple[str, ...]


def scan_path(folder: Path, participant_id: str) -> Path:
    """Path of a participant's raw scan."""
    return t1w_path(folder, Visit(participant_id, SESSION))


def make_cohort(
    folder: str | os.PathLike[str],
    *,
    n_participants: int = 48,
    seed: int = 0,
    voxel_mm: float | None = None,
    n_procs: int = 1,
    cohort: str = "adni",
) -> PhantomSummary:
    """Write a raw BIDS folder of phantom participants, or finish an interrupted one.

    Parameters
    ----------
    folder : path-like
        The BIDS folder; new, empty, or begun by an earlier call with the same arguments.
    n_participants : int
        At least 1; one raw scan per participant.
    seed : int
        Seed of people and scans: same seed (and other arguments), same bytes.
    voxel_mm : float, optional
        Isotropic voxel size of every scan, 1 to 6 mm. By default three sites use their own, 2 to 3
        mm.
    n_procs : int
        Processes that make scans; their number does not change a byte.
    cohort : {"adni", "aibl", "oasis1"}
        Cohort whose tables are imitated.

    Raises
    ------
    InputError
        If an argument makes no sense, or the folder holds something else.
    """
    folder = Path(folder)
    _check(n_participants, voxel_mm, n_procs, cohort)
    settings = {
        "recipe": RECIPE,
        "n_participants": n_participants,
        "seed": seed,
        "voxel_mm": voxel_mm,
        "cohort": cohort,
    }
    people = tables.make_people(n_participants, seed)
    _begin(folder, settings)
    _write_tables(folder, people, cohort)

    absent = [person for person in people if not scan_path(folder, person.participant_id).is_file()]
    make = partial(_write_scan, folder, seed, voxel_mm)
    with progress(
        len(people), "phantom cohort", "scans", done=len(people) - len(absent)
    ) as tracker:
        for participant_id in _map(make, absent, min(n_procs, len(absent))):
            tracker.advance(last=participant_id)
    broken = tuple(person.participant_id for person in people if person.unreadable)
    return PhantomSummary(folder, len(absent), len(people) - len(absent), broken)


def _check(n_participants: int, voxel_mm: float | None, n_procs: int, cohort: str) -> None:
    if n_participants < 1:
        raise InputError(
            f"phantom cohort: {n_participants} participants asked for; give at least 1"
        )
    if n_procs < 1:
        raise InputError(f"phantom cohort: {n_procs} processes asked for; give at least 1")
    if voxel_mm is not None and not 1 <= voxel_mm <= 6:
        raise InputError(f"phantom cohort: voxel size {voxel_mm} mm; give 1 to 6 mm")
    if cohort not in tables.COHORTS:
        raise InputError(
            f"phantom cohort: '{cohort}' not known; choose one of {', '.join(tables.COHORTS)}"
        )


def _begin(folder: Path, settings: dict[str, Any]) -> None:
    """Write the description, which says what the folder is and with which settings it was begun."""
    description = folder / DESCRIPTION
    if description.is_file():
        generated = read_json(description).get("GeneratedBy", [{}])
        found = (
            generated[0].get("Parameters") if generated and isinstance(generated[0], dict) else None
        )
        if found is None:
            raise InputError(
                f"{folder}: holds another data set; choose a new folder for the phantom cohort"
            )
        if found != settings:
            different = [key for key in settings if found.get(key) != settings[key]]
            raise InputError(
                f"{folder}: a phantom cohort made with another {', '.join(different)}; "
                "choose a new folder or delete it"
            )
        return
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: not empty; choose a new folder for the phantom cohort")
    write_text(
        folder / "README",
        "Phantom cohort made by neuroaug. No image or table in this folder comes from a person:\n"
        "the heads are computed from average maps and a seed, the tables are drawn.\n"
        "One scan is truncated on purpose. "
        "Each sidecar (PhantomTruth) says what is true of its scan.\n",
    )
    write_json(
        description,
        {
            "Name": f"phantom cohort (not patients), {settings['cohort']} layout, "
            f"seed {settings['seed']}",
            "BIDSVersion": BIDS_VERSION,
            "DatasetType": "raw",
            "License": "CC0",
            "GeneratedBy": [
                {"Name": "neuroaug phantom", "Version": __version__, "Parameters": settings}
            ],
        },
    )


def _write_tables(folder: Path, people: list[Person], cohort: str) -> None:
    participants = folder / PARTICIPANTS
    for person in people:
        path = sessions_path(folder / person.participant_id)
        if not path.is_file():
            write_tsv(path, tables.sessions_table(person, cohort))
    if not participants.is_file():
        write_tsv(participants, tables.participants_table(people, cohort))


def _write_scan(folder: Path, seed: int, voxel_mm: float | None, person: Person) -> str:
    """Write a participant's sidecar, then the scan, whose presence says that both are complete."""
    from threadpoolctl import threadpool_limits

    from neuroaug.phantom import scanner

    path = scan_path(folder, person.participant_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path.parent)
    with threadpool_limits(1):
        scan = scanner.scan(person, seed, voxel_mm)
    content = gzip.compress(scanner.nifti_bytes(scan), compresslevel=1, mtime=0)
    if person.unreadable:
        content = content[: len(content) // 2]
    write_json(
        sidecar_path(path),
        {
            "Modality": "MR",
            "Manufacturer": "phantom",
            "InstitutionName": f"phantom site {person.site}",
            "SeriesDescription": "phantom T1w, not a patient",
            "PhantomTruth": scan.truth,
        },
    )
    write_bytes(path, content)
    return person.participant_id


@contextmanager
def _one_thread() -> Iterator[None]:
    """Child processes start with one thread each; the parent's setting comes back afterwards."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before


def _map(make: Any, people: list[Person], n_procs: int) -> Iterator[str]:
    if n_procs <= 1:
        yield from map(make, people)
        return
    with (
        _one_thread(),
        ProcessPoolExecutor(n_procs, mp_context=multiprocessing.get_context("spawn")) as pool,
    ):
        try:
            yield from pool.map(make, people)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
