"""Five leaks planted, each refused by name; and the proof when there is none."""

import pandas as pd
import pytest

from neuroaug.audit.cell_proof import PROOF_COLUMNS, check_cell
from neuroaug.cohort.lineage import LINEAGE_COLUMNS, read_lineage, write_lineage
from neuroaug.errors import InputError, LeakageError

SPLIT = "a" * 64
PEOPLE = {
    "train": ("sub-1", "sub-2", "sub-3", "sub-4"),
    "validation": ("sub-5", "sub-6"),
    "test": ("sub-7", "sub-8"),
    "aibl": ("sub-AIBL9",),
}


def people(*names, session="ses-M000"):
    return pd.DataFrame({"participant_id": names, "session_id": session, "diagnosis": "AD"})


CHECKSUMS = {(name, "ses-M000"): f"image of {name}" for names in PEOPLE.values() for name in names}


@pytest.fixture
def check(tmp_path):
    """Check a cell whose generator learned from `names` (with these sessions, checksums, split)."""

    def run(names, *, train=PEOPLE["train"], split_hash=SPLIT, checksums=CHECKSUMS, **columns):
        table = people(*names).assign(split="train", split_hash=SPLIT)
        table["image_sha256"] = [
            CHECKSUMS.get((name, "ses-M000"), f"image of {name}") for name in names
        ]
        write_lineage(tmp_path / "models" / "AD", table.assign(**columns))
        return check_cell(
            cell_train=people(*train),
            forbidden={name: people(*PEOPLE[name]) for name in ("validation", "test", "aibl")},
            generators=[tmp_path / "models" / "AD"],
            split_hash=split_hash,
            image_sha256=checksums,
        )

    return run


def test_a_clean_cell_gives_the_proof(check):
    proof = check(["sub-1", "sub-2"])
    assert list(proof.columns) == list(PROOF_COLUMNS)
    assert set(proof["result"]) == {"passed"}
    assert set(proof["n_found"]) == {0}
    of_generator = proof[proof["generator"] == "models/AD"]
    assert set(of_generator["against"]) == {"validation", "test", "aibl", "training set", "split"}
    assert set(of_generator["n_learned_from"]) == {2}
    assert set(of_generator["check"]) == {
        "no participant in common",
        "no image in common",
        "learned from this training set only",
        "same diagnoses",
        "same images",
        "same split",
    }


def test_leak_1_the_same_participant(check):
    with pytest.raises(LeakageError, match="sub-7 is in test"):
        check(["sub-1", "sub-7"])


def test_leak_2_another_visit_of_a_participant(check):
    with pytest.raises(LeakageError, match=r"sub-8 \(another visit, ses-M012\) is in test"):
        check(["sub-1", "sub-8"], session_id=["ses-M000", "ses-M012"])


def test_leak_3_a_copy_of_the_image_under_another_name(check):
    with pytest.raises(LeakageError, match="sub-1 is a copy of the image of sub-7, who is in test"):
        check(["sub-1", "sub-2"], image_sha256=["image of sub-7", "image of sub-2"])


def test_leak_3_also_where_the_copy_is_a_real_training_image(check):
    with pytest.raises(
        LeakageError,
        match="training set: sub-3 is a copy of the image of sub-AIBL9, who is in aibl",
    ):
        check(["sub-1"], checksums={**CHECKSUMS, ("sub-3", "ses-M000"): "image of sub-AIBL9"})


def test_leak_4_a_split_edited_after_training(check):
    # sub-2 was moved out of the training set by hand: the hash differs, and she is outside.
    with pytest.raises(LeakageError, match="sub-2 is not in the cell's training set") as error:
        check(["sub-1", "sub-2"], train=("sub-1", "sub-3", "sub-4"), split_hash="b" * 64)
    assert "learned in split aaaaaaaaaaaa, not bbbbbbbbbbbb" in str(error.value)


def test_leak_5_a_generator_trained_again_on_validation(check):
    with pytest.raises(LeakageError, match="sub-5 is in validation, sub-6 is in validation"):
        check(["sub-5", "sub-6"])


def test_external_participants_are_forbidden_too(check):
    with pytest.raises(LeakageError, match="sub-AIBL9 is in aibl"):
        check(["sub-1", "sub-AIBL9"])


def test_a_generator_of_train_has_no_place_in_a_subset(check):
    with pytest.raises(LeakageError, match="sub-3 is not in the cell's training set, sub-4 is not"):
        check(["sub-1", "sub-2", "sub-3", "sub-4"], train=("sub-1", "sub-2"))


def test_a_generator_of_another_split_is_refused_by_name(check):
    with pytest.raises(
        LeakageError, match=r"models/AD: learned in split aaaaaaaaaaaa, not cccc.*: sub-1 sub-2"
    ):
        check(["sub-1", "sub-2"], split_hash="c" * 64)


def test_a_relabelled_participant_is_refused(check):
    with pytest.raises(LeakageError, match="sub-2 was CN for the generator and is AD"):
        check(["sub-1", "sub-2"], diagnosis=["AD", "CN"])


def test_an_image_replaced_since_is_refused(check):
    with pytest.raises(
        LeakageError, match="the image of sub-1 is not the one that the generator learned from"
    ):
        check(["sub-1"], image_sha256=["image before it was preprocessed again"])


def test_every_fault_is_named_in_one_line(check):
    with pytest.raises(LeakageError) as error:
        check(["sub-5", "sub-7"])
    assert "sub-5 is in validation" in str(error.value)
    assert "sub-7 is in test" in str(error.value)
    assert "\n" not in str(error.value)


def test_real_cells_are_checked_without_generators():
    arguments = {"generators": [], "split_hash": SPLIT, "image_sha256": CHECKSUMS}
    proof = check_cell(cell_train=people("sub-1"), forbidden={"test": people("sub-7")}, **arguments)
    assert list(proof["generator"]) == ["training set", "training set"]
    with pytest.raises(LeakageError, match="training set: sub-7 is in test"):
        check_cell(cell_train=people("sub-7"), forbidden={"test": people("sub-7")}, **arguments)


def test_without_a_complete_lineage_nothing_is_proved(tmp_path, check):
    with pytest.raises(InputError, match="cannot be proved: train it again"):
        read_lineage(tmp_path)
    with pytest.raises(InputError, match="no checksum of the image of sub-8 ses-M000"):
        check(["sub-1"], checksums={k: v for k, v in CHECKSUMS.items() if k[0] != "sub-8"})
    with pytest.raises(InputError, match="the row of sub-2 is not complete"):
        check(["sub-1", "sub-2"], image_sha256=["image of sub-1", None])
    with pytest.raises(InputError, match="nobody in the lineage"):
        write_lineage(tmp_path, pd.DataFrame(columns=list(LINEAGE_COLUMNS)))
    with pytest.raises(InputError, match="split_hash missing"):
        write_lineage(tmp_path, people("sub-1").assign(image_sha256="x", split="train"))


def test_lineage_reads_back_sorted(tmp_path):
    table = people("sub-2", "sub-1").assign(image_sha256="x", split="train", split_hash=SPLIT)
    write_lineage(tmp_path, table)
    assert list(read_lineage(tmp_path)["participant_id"]) == ["sub-1", "sub-2"]
    assert list(read_lineage(tmp_path).columns) == list(LINEAGE_COLUMNS)
