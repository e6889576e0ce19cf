"""The embedded cohort: a raw BIDS folder of phantom heads, made in place from a seed.

Of a large cohort only some participants are scanned; the others' images are made on the grid of a
CAPS (`neuroaug.phantom.on_grid`), and the tables of all stand in a folder of their own. For the
demo and the tests, which have no patient data. A participant's files depend on the seed and the
participant alone, so an interrupted generation continues and any number of processes gives the same
bytes. Everything it writes says "phantom".
"""

from __future__ import annotations

import gzip
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from neuroaug import __version__
from neuroaug.config.stage_settings import PHANTOM_SEVERITY
from neuroaug.errors import InputError
from neuroaug.imaging import caps as caps_names
from neuroaug.imaging.bids import (
    BIDS_VERSION,
    DESCRIPTION,
    PARTICIPANTS,
    Visit,
    sessions_path,
    sidecar_path,
    t1w_path,
)
from neuroaug.phantom import on_grid as on_grid_names
from neuroaug.phantom import phantom_tables as tables
from neuroaug.phantom.phantom_tables import Person
from neuroaug.system.files import (
    read_json,
    remove_leftovers,
    visible,
    write_bytes,
    write_json,
    write_text,
    write_tsv,
)
from neuroaug.system.progress import progress
from neuroaug.system.threads import processes

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
    on_grid : tuple of Visit
        Visits whose image was made on the grid of the CAPS, without a raw scan.
    """

    folder: Path
    n_made: int
    n_present: int
    unreadable: tuple[str, ...]
    on_grid: tuple[Visit, ...] = ()


@dataclass(frozen=True)
class RegisteredFolders:
    """Where a cohort goes of which only some participants are scanned.

    Attributes
    ----------
    caps : Path
        CAPS for the images that are made on its grid.
    tables : Path
        Folder for the tables of all participants; the raw BIDS folder lists those scanned.
    """

    caps: Path
    tables: Path


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
    severity: float = PHANTOM_SEVERITY,
    scanned: int | None = None,
    registered: RegisteredFolders | None = None,
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
    severity : float
        Separation of AD from CN, in standard deviations of the latent severity.
    scanned : int, optional
        How many participants have a raw scan, that to be broken among them; by default all.
    registered : RegisteredFolders, optional
        Where the others go; needed with `scanned`.

    Raises
    ------
    InputError
        If an argument makes no sense, or the folder holds something else.
    """
    folder = Path(folder)
    _check(n_participants, voxel_mm, n_procs, cohort)
    _check_scanned(folder, n_participants, scanned, registered)
    settings: dict[str, Any] = {
        "recipe": RECIPE,
        "n_participants": n_participants,
        "seed": seed,
        "voxel_mm": voxel_mm,
        "cohort": cohort,
    }
    # Left out where they are as ever, so that folders begun before there were any go on.
    if severity != PHANTOM_SEVERITY:
        settings["severity"] = severity
    if scanned is not None:
        settings["scanned"] = scanned
    people = tables.make_people(n_participants, seed, severity)
    first = sorted(people, key=lambda person: (not person.unreadable, person.number))
    raw = {person.number for person in first[:scanned]}
    _begin(folder, settings)
    _write_tables(folder, [person for person in people if person.number in raw], cohort)
    if registered is not None and len(raw) < len(people):
        _begin(registered.tables, settings)
        _write_tables(registered.tables, people, cohort)
        _begin_caps(registered.caps, settings)

    caps = None if registered is None else registered.caps
    absent = [p for p in people if not _is_there(folder, caps, p, p.number in raw)]
    make = partial(_write, folder, caps, seed, voxel_mm, raw)
    with progress(
        len(people), "phantom cohort", "scans", done=len(people) - len(absent)
    ) as tracker:
        for participant_id in _map(make, absent, min(n_procs, len(absent))):
            tracker.advance(last=participant_id)
    broken = tuple(person.participant_id for person in people if person.unreadable)
    on_grid = tuple(visit_of(p) for p in people if p.number not in raw)
    return PhantomSummary(folder, len(absent), len(people) - len(absent), broken, on_grid)


def visit_of(person: Person) -> Visit:
    """The visit at which a phantom is imaged."""
    return Visit(person.participant_id, SESSION)


def _is_there(folder: Path, caps: Path | None, person: Person, is_raw: bool) -> bool:
    if is_raw or caps is None:
        return scan_path(folder, person.participant_id).is_file()
    return on_grid_names.sidecar_path(caps, visit_of(person)).is_file()


def _write(
    folder: Path,
    caps: Path | None,
    seed: int,
    voxel_mm: float | None,
    raw: Collection[int],
    person: Person,
) -> str:
    if person.number in raw or caps is None:
        return _write_scan(folder, seed, voxel_mm, person)
    on_grid_names.write_registered(caps, visit_of(person), person, seed)
    return person.participant_id


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


def _check_scanned(
    folder: Path, n: int, scanned: int | None, registered: RegisteredFolders | None
) -> None:
    if scanned is None:
        return
    if not 1 <= scanned <= n:
        raise InputError(f"phantom.scanned: {scanned} of {n} participants; give 1 to {n}")
    if registered is None:
        raise InputError(
            "phantom.scanned: phantoms without a scan go into a study's CAPS; "
            "run the command in a study, or leave scanned out"
        )
    if registered.tables.absolute() == folder.absolute():
        raise InputError(
            f"{folder}: with phantom.scanned the tables of all participants need a folder of "
            "their own, since a raw BIDS folder lists whom it has; set tables: tables"
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
    if folder.exists() and (not folder.is_dir() or visible(folder)):
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


def _begin_caps(caps: Path, settings: dict[str, Any]) -> None:
    """Make a CAPS for the images of these settings, or find the one that was begun for them."""
    key = "PhantomsOnGrid"
    if (caps / DESCRIPTION).is_file():
        if read_json(caps / DESCRIPTION).get(key) != settings:
            raise InputError(
                f"{caps}: a CAPS of another data set or other phantoms; "
                "choose a new folder or delete it"
            )
        return
    name = f"t1-linear of a phantom cohort (not patients), seed {settings['seed']}"
    caps_names.write_dataset_description(caps, name=name, extra={key: settings})


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
        processes(n_procs) as pool,
    ):
        try:
            yield from pool.map(make, people)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
