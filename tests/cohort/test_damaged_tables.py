"""Damaged tables: people in are labelled, or left out by a rule, or the tables are refused."""

import pytest
from custom_cohort import RULES, make_caps
from hypothesis import given, settings
from hypothesis import strategies as st

from neuroaug.cohort.account import label_cohort
from neuroaug.errors import InputError

CUSTOM_CELLS = {
    "participant_id": ["sub-1", "1", "SUB-1", "sub-01", "n/a", "sub-9", "sub_2", '"sub-1'],
    "session_id": ["ses-M0", "M006", "n/a", "ses-1", "ses_1", "ses-m000", "baseline"],
    "group": ["control", " Control ", "depr", "n/a", "other", "1.0", '"depr', "DYSTHYMIA"],
    "age": ["89+", "72,4", "-", "-4", "999", "old", "1e9", "nan", '"', ""],
    "sex": ["M", "female", "x", "n/a", '"F"'],
}
ADNI_CELLS = {
    "participant_id": ["sub-ADNI1", "ADNI1", "sub-adni1", "sub-ADNI01", "n/a", "sub-ADNI9"],
    "session_id": ["ses-M00", "M006", "ses-M000", "n/a", "ses-1", "ses-m012"],
    "diagnosis": ["CN", "AD", "Dementia", "dementia", "MCI", "n/a", "Demented", '"AD'],
    "age": ["89+", "72,4", "-", "-4", "999", "old", '"'],
    "mmse": ["-1", "999", "-4", "28", "n/a", '"30'],
    "sex": ["M", "F", "n/a", "x"],
}


def sound(cohort, n=5):
    """A table without damage: two sessions each."""
    name = "sub-ADNI" if cohort == "adni" else "sub-"
    label = ("CN", "AD") if cohort == "adni" else ("control", "depr")
    cells = ADNI_CELLS if cohort == "adni" else CUSTOM_CELLS
    own = {"age": "70", "sex": "F", "mmse": "28"}
    rows = []
    for i in range(1, n + 1):
        for session in ("ses-M000", "ses-M006"):
            given_ = {"participant_id": f"{name}{i}", "session_id": session}
            row = {**own, **given_, "diagnosis": label[i % 2], "group": label[i % 2]}
            rows.append([row[column] for column in cells])
    return list(cells), rows


@st.composite
def damaged(draw, cohort):
    header, rows = sound(cohort)
    cells = ADNI_CELLS if cohort == "adni" else CUSTOM_CELLS
    for _ in range(draw(st.integers(0, 3))):
        kind = draw(st.sampled_from(["drop", "twice", "cell", "cell", "cell"]))
        i = draw(st.integers(0, len(rows) - 1))
        if kind == "drop" and len(rows) > 1:
            del rows[i]
        elif kind == "twice":
            rows.insert(draw(st.integers(0, len(rows))), list(rows[i]))
        else:
            column = draw(st.sampled_from(header))
            rows[i][header.index(column)] = draw(st.sampled_from(cells[column]))
    separator = draw(st.sampled_from(["\t"] * 8 + [",", "\t\t"]))
    tail = draw(st.sampled_from(["", "\t"]))
    lines = [separator.join(row) + tail for row in [header, *rows]]
    encoding = draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]))
    end = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    people = [row[header.index("participant_id")] for row in rows]
    return end.join(lines).encode(encoding), people


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A CAPS of each cohort, with somebody whom no table has."""
    folder = tmp_path_factory.mktemp("caps")
    visits = [(i, s) for i in (1, 2, 3, 8) for s in ("ses-M000", "ses-M006")]
    return {
        cohort: make_caps(folder / cohort, *(f"{name}{i}_{session}" for i, session in visits))
        for cohort, name in (("adni", "sub-ADNI"), ("custom", "sub-"))
    }


@pytest.mark.parametrize("with_images", [True, False])
@pytest.mark.parametrize("cohort", ["custom", "adni"])
def test_nobody_is_lost(tmp_path_factory, images, cohort, with_images):
    folder = tmp_path_factory.mktemp("tables")

    @settings(max_examples=150, deadline=None)
    @given(damaged(cohort))
    def check(table):
        content, people = table
        (folder / "merged.tsv").write_bytes(content)
        rules = RULES if cohort == "custom" else None
        caps = images[cohort] if with_images else None
        try:
            found = label_cohort(folder / "merged.tsv", caps, cohort=cohort, rules=rules)
        except InputError as error:
            lines = str(error).splitlines()
            found = None
        if found is None:
            assert len(lines) == 1
            return
        account = found.account
        out = [person for names in account.left_out.values() for person in names]
        kept = list(found.labelled["participant_id"])
        assert len({*out, *kept}) == len(out) + len(kept) == account.people
        assert sum(account.labelled.values()) == len(kept)
        assert set(out) <= set(found.exclusions["participant_id"])
        written = {person.casefold().removeprefix("sub-").lstrip("0") for person in people}
        pictured = {p.casefold().removeprefix("sub-") for p in map(str, [*out, *kept])}
        stripped = {name.replace("adni0", "adni").lstrip("0") for name in pictured}
        assert {name.replace("adni0", "adni") for name in written} <= stripped

    check()
