"""A lineage that is not the one its generator was trained with is refused, even where it names
nobody who is tested.
"""

import pandas as pd
import pytest

from neuroaug.audit.leakage import refuse_edited_lineage
from neuroaug.cohort.lineage import LINEAGE_COLUMNS, read_lineage, write_lineage
from neuroaug.errors import LeakageError
from neuroaug.system.files import read_json, sha256_file, write_json, write_tsv


@pytest.fixture
def folders(tmp_path):
    """A synthetic set and its generator, as training and drawing leave them."""
    drawn, model = tmp_path / "synthetic" / "CN", tmp_path / "models" / "CN"
    rows = [(f"sub-{i}", "ses-M000", "CN", f"{i:064d}", "train", "0" * 64) for i in (2, 0, 1, 4, 3)]
    table = pd.DataFrame(rows, columns=list(LINEAGE_COLUMNS))
    write_tsv(model / "lineage.tsv", table)
    write_json(
        model / "config.json", {"checksums": {"lineage.tsv": sha256_file(model / "lineage.tsv")}}
    )
    write_lineage(drawn, table)
    record = dict.fromkeys(
        ("label", "resolution", "model", "sampler", "profile", "seed", "dtype", "device"), ""
    )
    record |= {"model_sha256": sha256_file(model / "config.json"), "settings": {}}
    write_json(drawn / "synthesis.json", record)
    return drawn, model


def test_what_training_and_drawing_wrote_passes(folders):
    drawn, model = folders
    refuse_edited_lineage(drawn, model)
    order = [
        "participant_id"
    ]  # a generator's and a set's lineage may list the same people in another order
    own, given = (
        read_lineage(folder).sort_values(order, ignore_index=True) for folder in (drawn, model)
    )
    assert own.equals(given)


def test_a_row_taken_out_of_a_sets_lineage_is_noticed(folders):
    drawn, model = folders
    write_lineage(drawn, read_lineage(drawn)[1:])
    with pytest.raises(LeakageError, match=r"synthetic/CN/lineage\.tsv: not that of its generator"):
        refuse_edited_lineage(drawn, model)


@pytest.mark.parametrize("both", [False, True])
def test_a_row_taken_out_of_a_generators_lineage_is_noticed(folders, both):
    drawn, model = folders
    write_lineage(model, read_lineage(model)[1:])
    if both:
        write_lineage(drawn, read_lineage(drawn)[1:])
    with pytest.raises(
        LeakageError, match=r"models/CN/lineage\.tsv: edited since the generator was trained"
    ):
        refuse_edited_lineage(drawn, model)
    (model / "lineage.tsv").unlink()
    with pytest.raises(LeakageError, match=r"models/CN/lineage\.tsv: gone since"):
        refuse_edited_lineage(drawn, model)


def test_a_generator_trained_again_has_a_lineage_of_its_own(folders):
    drawn, model = folders
    write_lineage(model, read_lineage(model)[1:])
    write_json(
        model / "config.json", {"checksums": {"lineage.tsv": sha256_file(model / "lineage.tsv")}}
    )
    assert read_json(drawn / "synthesis.json")["model_sha256"] != sha256_file(model / "config.json")
    refuse_edited_lineage(drawn, model)  # both lineages are then checked, each for itself
