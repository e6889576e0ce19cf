"""What became of each visit of a CAPS: one record per visit, and the root tables made from them.

Records are small JSON files in the hidden folder of the CAPS. The root tables are what people and
later stages read: ``failures.tsv`` (what could not be done), ``qc.tsv`` (which registrations
passed, as ClinicaDL 1.x's quality check writes it), and ``qc-decisions.tsv``, which is the user's
and overrules.
"""

from __future__ import annotations

import difflib
import json
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from neuroaug.errors import InputError
from neuroaug.imaging import caps as caps_names
from neuroaug.imaging.bids import Visit, is_participant, is_session, loose, prefixed
from neuroaug.preprocessing.claims import tables_lock
from neuroaug.preprocessing.refusal import Refusal
from neuroaug.system.files import (
    read_json,
    read_tsv,
    remove_leftovers,
    write_json,
    write_text,
    write_tsv,
)

log = logging.getLogger("neuroaug")

FAILURES, QC, DECISIONS = "failures.tsv", "qc.tsv", "qc-decisions.tsv"
FAILURE_COLUMNS = ("participant_id", "session_id", "stage", "reason")
QC_COLUMNS = ("participant_id", "session_id", "pass_probability", "pass")
DECISION_COLUMNS = ("participant_id", "session_id", "pass")
_TRUE, _FALSE = ("true", "1", "yes", "pass"), ("false", "0", "no", "fail")
_PLANNED = ("select", "tables")  # stages of rows that every plan makes anew
# Without a slash at the end: the BIDS validator matches a folder's name only so.
_BIDSIGNORE = ("subjects", caps_names.HIDDEN, FAILURES, QC, DECISIONS, "qc*.html", "logs")


@dataclass(frozen=True)
class Record:
    """What became of one visit.

    Attributes
    ----------
    status : {"started", "ok", "failed"}
        ``started`` marks files that may be half of a visit's: they are written again.
    input : dict
        sha256, size (bytes) and modification time (ns) of what the visit was made from.
    parameters : dict
        What was asked; another request makes the visit anew.
    files : dict
        Name to size (bytes) of every file of the visit.
    quality : dict
        ``score``, ``pass_probability``, ``pass`` of the registration.
    stage, reason : str
        Stage in which a failed visit failed, and why.
    note : str
        What the user should know, e.g. which runs were not taken.
    """

    status: Literal["started", "ok", "failed"]
    input: dict[str, Any] = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict)
    files: dict[str, int] = field(default_factory=dict)
    quality: dict[str, Any] = field(default_factory=dict)
    stage: str = ""
    reason: str = ""
    note: str = ""


def _record_path(caps: Path, visit: Visit) -> Path:
    return caps_names.hidden(caps) / "visits" / f"{visit.stem}.json"


def read_record(caps: Path, visit: Visit) -> Record | None:
    """Read a visit's record; None where there is none that can be read."""
    try:
        content = json.loads(_record_path(caps, visit).read_text(encoding="utf-8"))
        known = {f.name for f in fields(Record)}
        return Record(**{key: value for key, value in content.items() if key in known})
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def write_record(caps: Path, visit: Visit, record: Record) -> None:
    """Write a visit's record, atomically."""
    write_json(_record_path(caps, visit), asdict(record))


def remove_record(caps: Path, visit: Visit) -> None:
    """Forget a visit."""
    _record_path(caps, visit).unlink(missing_ok=True)


def sidecar_record(caps: Path, visit: Visit) -> Record | None:
    """Make a record of our sidecar, where a CAPS was copied without its hidden folder."""
    try:
        sidecar = read_json(caps_names.t1_linear_sidecar(caps, visit))
        parameters = {
            "profile": sidecar["parameters"]["profile"],
            "n4_distance": sidecar["parameters"]["n4"]["spline_distance_mm"],
            "template_sha256": sidecar["template"]["sha256"],
        }
        return Record("ok", input={"sha256": sidecar["input"]["sha256"]}, parameters=parameters)
    except (InputError, KeyError, TypeError):
        return None


def prepare_caps(
    caps: Path, *, name: str, source_datasets: Iterable[Mapping[str, Any]] = ()
) -> None:
    """Make `caps` a CAPS if it is none yet, and tell BIDS readers what to pass over.

    Another's files are kept.
    """
    with tables_lock(caps):
        remove_leftovers(caps)  # whoever writes at the root holds the lock
        if not (caps / caps_names.DESCRIPTION).exists():
            caps_names.write_dataset_description(
                caps, name=name, source_datasets=tuple(source_datasets)
            )
        if not (caps / ".bidsignore").exists():
            write_text(caps / ".bidsignore", "\n".join(_BIDSIGNORE) + "\n")


def update_tables(
    caps: Path,
    records: Mapping[Visit, Record],
    refusals: Collection[Refusal] = (),
    *,
    planned: Callable[[Refusal], bool] | None = None,
) -> None:
    """Bring ``failures.tsv`` and ``qc.tsv`` up to date, under the lock of the CAPS.

    Rows of visits that are not among `records` stay as they are, so that jobs sharing a CAPS do not
    undo each other.

    Parameters
    ----------
    caps : Path
        The CAPS.
    records : mapping
        Visits that are ok or failed now.
    refusals : collection
        Rows for what could not be planned.
    planned : callable, optional
        Whether an earlier row of that kind is about what was planned now, so that `refusals`
        replace it.
    """
    with tables_lock(caps):
        _update_failures(caps / FAILURES, records, refusals, planned)
        _update_qc(caps, records)


def _update_failures(
    path: Path,
    records: Mapping[Visit, Record],
    refusals: Collection[Refusal],
    planned: Callable[[Refusal], bool] | None,
) -> None:
    rows = set(read_failures(path.parent)) if path.exists() else set()
    decided = {(v.participant_id, v.session_id) for v in records}
    kept = set(refusals)
    for row in rows:
        if row.stage in _PLANNED:
            if planned is not None and planned(row):
                continue
            if row.stage == "select" and (row.participant_id, row.session_id) in decided:
                continue
            kept.add(row)
        elif (row.participant_id, row.session_id) not in decided:
            kept.add(row)
    for visit, record in records.items():
        if record.status == "failed":
            kept.add(Refusal(visit.participant_id, visit.session_id, record.stage, record.reason))
    if kept == rows and path.exists():
        return
    # Always written, empty when nothing failed: its absence then never means "not looked at".
    _write_rows(
        path,
        FAILURE_COLUMNS,
        # A cell cannot hold a tab: it is written as two characters, and read back as one.
        [
            (r.participant_id, r.session_id, r.stage, r.reason.replace("\t", r"\t"))
            for r in sorted(kept)
        ],
    )


def _write_rows(path: Path, columns: Sequence[str], rows: Sequence[tuple[str, ...]]) -> None:
    import pandas as pd

    write_tsv(path, pd.DataFrame(list(rows), columns=list(columns)))


def read_failures(caps: Path) -> list[Refusal]:
    """Rows of ``failures.tsv``, none where there is no such table.

    Raises
    ------
    InputError
        If the table cannot be read.
    """
    path = Path(caps) / FAILURES
    if not path.exists():
        return []
    table = read_tsv(path, required=FAILURE_COLUMNS).fillna("n/a")
    table["reason"] = [str(reason).replace(r"\t", "\t") for reason in table["reason"]]
    return [Refusal(*row) for row in table[list(FAILURE_COLUMNS)].itertuples(index=False)]


def read_decisions(caps: Path) -> dict[Visit, bool]:
    """Read the user's own verdicts, ``qc-decisions.tsv``: visit to pass or not.

    Raises
    ------
    InputError
        For a row that names no visit, no verdict, or a visit twice with two verdicts.
    """
    path = Path(caps) / DECISIONS
    if not path.exists():
        return {}
    known = _known_visits(caps)
    decisions: dict[Visit, bool] = {}
    for where, written, verdict in _verdicts(path):
        visit = known.get(_spelling(written)) if known else written  # nothing is preprocessed yet
        if visit is None:
            near = difflib.get_close_matches(str(written), map(str, known.values()), n=1)
            hint = f"; did you mean {near[0]}?" if near else "; correct it, or remove the row"
            raise InputError(f"{where}: {written} is no visit of this CAPS{hint}")
        if decisions.setdefault(visit, verdict) != verdict:
            raise InputError(f"{where}: {visit} stands there with both verdicts; keep one")
    return decisions


def _spelling(visit: Visit) -> tuple[str, str]:
    """What spellings of one visit share (``ses-M00`` and ``ses-M000``)."""
    return loose(visit.participant_id), loose(visit.session_id)


def _known_visits(caps: Path) -> dict[tuple[str, str], Visit]:
    """Visits that a decision may be about, by what their spellings share."""
    pairs = [(f.participant_id, f.session_id) for f in read_failures(caps)]
    if (caps / QC).exists():
        table = read_tsv(caps / QC, required=QC_COLUMNS)
        pairs += list(zip(table["participant_id"], table["session_id"], strict=True))
    pairs += [(path.parent.name, path.name) for path in caps.glob("subjects/sub-*/ses-*")]
    known = {}
    for participant, session in pairs:
        if is_participant(participant) and is_session(session):
            visit = Visit(participant, session)
            known[_spelling(visit)] = visit  # a folder's spelling, the last, counts
    return known


def _verdicts(path: Path) -> Iterator[tuple[str, Visit, bool]]:
    """Read a table of verdicts: for each row, its place, the visit, and whether it passed."""
    table = read_tsv(path, required=DECISION_COLUMNS)[list(DECISION_COLUMNS)]
    for line, (participant, session, verdict) in enumerate(table.itertuples(index=False), 2):
        where, text = f"{path}: line {line}", str(verdict).strip().lower()
        try:
            names = (str(participant), "sub-"), (str(session), "ses-")
            visit = Visit(*(prefixed(text, prefix) or text for text, prefix in names))
        except InputError as error:
            raise InputError(f"{where}: {error}") from None
        if text not in _TRUE + _FALSE:
            raise InputError(f"{where}: pass is '{verdict}'; write True or False")
        yield where, visit, text in _TRUE


def _update_qc(caps: Path, records: Mapping[Visit, Record]) -> None:
    path = caps / QC
    before: dict[tuple[str, str], tuple[str, str]] = {}
    kinds: dict[tuple[str, str], str] = {}  # of rows that no registration made
    if path.exists():
        table = read_tsv(path, required=QC_COLUMNS).fillna("n/a")
        if "kind" in table.columns:
            kinds = dict(
                zip(
                    zip(table["participant_id"], table["session_id"], strict=True),
                    table["kind"],
                    strict=True,
                )
            )
        for participant, session, probability, verdict in table[list(QC_COLUMNS)].itertuples(
            index=False
        ):
            before[participant, session] = (probability, verdict)
    rows = dict(before)
    for visit, record in records.items():
        key = (visit.participant_id, visit.session_id)
        rows.pop(key, None)
        kinds.pop(key, None)
        if record.status == "ok" and record.quality:
            probability = f"{float(record.quality['pass_probability']):.4f}"
            rows[key] = (probability, str(bool(record.quality["pass"])))
            if record.quality.get("kind", "head") != "head":
                kinds[key] = record.quality["kind"]
    spelled = {(loose(p), loose(s)): (p, s) for p, s in rows}
    decided = _verdicts(caps / DECISIONS) if (caps / DECISIONS).exists() else ()
    for (
        _,
        visit,
        verdict,
    ) in decided:  # those of visits yet to come are not refused here
        key = spelled.get(_spelling(visit), (visit.participant_id, visit.session_id))
        if key in rows:
            rows[key] = (rows[key][0], str(verdict))
    if (rows == before and path.exists()) or (not rows and not path.exists()):
        return
    if not kinds:
        _write_rows(path, QC_COLUMNS, [(*key, *rows[key]) for key in sorted(rows)])
        return
    columns = (*QC_COLUMNS, "kind")
    _write_rows(path, columns, [(*key, *rows[key], kinds.get(key, "scan")) for key in sorted(rows)])


def accept_unregistered(caps: Path, visits: Iterable[Visit], kind: str) -> None:
    """Add rows to ``qc.tsv`` for images that no registration made, so that later stages take them.

    Their probability is n/a: there is nothing to judge. Rows that are there stay.

    Parameters
    ----------
    caps : Path
        The CAPS.
    visits : iterable of Visit
        Visits of the images.
    kind : str
        What the images are, for the column ``kind``.
    """
    import pandas as pd

    path, columns = caps / QC, [*QC_COLUMNS, "kind"]
    with tables_lock(caps):
        table = read_tsv(path, required=QC_COLUMNS) if path.exists() else pd.DataFrame()
        table = table.reindex(columns=[*columns, *table.columns.difference(columns)])
        known = set(zip(table["participant_id"], table["session_id"], strict=True))
        new = [
            (visit.participant_id, visit.session_id, "n/a", "True", kind)
            for visit in visits
            if (visit.participant_id, visit.session_id) not in known
        ]
        if not new:
            return
        rows = pd.concat([table, pd.DataFrame(new, columns=columns)]).fillna("n/a")
        write_tsv(path, rows.sort_values(["participant_id", "session_id"]))


def passed_visits(caps: str | Path) -> list[Visit] | None:
    """Visits whose registration passed, the user's ``qc-decisions.tsv`` taking precedence.

    Returns
    -------
    list of Visit or None
        Sorted; None, and that is logged, where the CAPS has neither ``qc.tsv`` nor decisions, which
        means that nobody looked. With decisions alone, every visit of the CAPS that they do not
        reject.

    Raises
    ------
    InputError
        If a table cannot be read, or ``pass`` is neither true nor false.
    """
    caps = Path(caps)
    decisions = read_decisions(caps)
    path = caps / QC
    if path.exists():
        spelled = {_spelling(visit): visit for visit in caps_names.list_visits(caps)}
        rows = ((spelled.get(_spelling(v), v), verdict) for _, v, verdict in _verdicts(path))
        verdicts = dict(rows)
    elif decisions:
        verdicts = dict.fromkeys(caps_names.list_visits(caps), True)
    else:
        log.info("%s: no %s; every preprocessed visit counts as passed", caps, QC)
        return None
    verdicts.update(decisions)
    return sorted(visit for visit, verdict in verdicts.items() if verdict)
