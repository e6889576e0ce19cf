"""Scores to claims: the tables, and whether what they claim is true."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scored_study import row, study, write_run
from sklearn.metrics import (
    balanced_accuracy_score,
    brier_score_loss,
    recall_score,
    roc_auc_score,
)

import neuroaug
from neuroaug.cohort.split_folder import write_split_folder
from neuroaug.config import Cell
from neuroaug.errors import InputError
from neuroaug.evaluation.summarise import summarise, summarise_study, write_summary
from neuroaug.statistics.columns import COMPARISON_COLUMNS, REPORTED, RESULT_COLUMNS
from neuroaug.statistics.results import reference_cells
from neuroaug.study import Study
from neuroaug.system.files import read_tsv, sha256_file, write_json, write_tsv

REAL = "train_baseline_2mm_real"
BOTH = "train_baseline_2mm_real+synthetic-{}"
FAST = {"n_replicates": 2000}


def test_results_are_scikit_learns_on_the_scores(tmp_path):
    cells = study(tmp_path, {REAL: 0.0, BOTH.format(500): 0.5}, sets=("test", "aibl"), n=20)
    summary = summarise(
        tmp_path,
        cells,
        n_real_per_label={REAL: {"CN": 243, "AD": 210}, BOTH.format(500): 50},
        **FAST,
    )
    assert tuple(summary.results.columns) == RESULT_COLUMNS
    assert list(summary.results["test_set"]) == ["test", "aibl"] * 2
    assert list(summary.results["n_real_per_label"]) == ["243 CN + 210 AD"] * 2 + ["50"] * 2
    assert list(summary.results["n_synthetic_per_label"]) == [0, 0, 500, 500]
    for line in summary.results.to_dict("records"):
        per_run = []
        for path in sorted((tmp_path / line["cell"]).glob("run-*/scores.tsv")):
            scores = pd.read_csv(path, sep="\t")
            scores = scores[scores["test_set"] == line["test_set"]]
            y, guess = scores["label"] == "AD", scores["prediction"] == "AD"
            per_run.append(
                (
                    balanced_accuracy_score(y, guess),
                    recall_score(y, guess),
                    recall_score(y, guess, pos_label=False),
                    roc_auc_score(y, scores["score"]),
                    brier_score_loss(y, scores["score"]),
                )
            )
        for i, measure in enumerate(REPORTED):
            values = np.array(per_run)[:, i]
            assert line[f"{measure}_mean"] == pytest.approx(values.mean(), abs=1e-12)
            assert line[f"{measure}_std"] == pytest.approx(values.std(ddof=1), abs=1e-12)
            assert (
                line[f"{measure}_ci_low"] <= line[f"{measure}_mean"] <= line[f"{measure}_ci_high"]
            )
        assert line["n_runs"] == 5


def test_the_truth_of_a_small_matrix_is_reported(tmp_path):
    labels, scores = np.arange(8) < 4, [0.9, 0.8, 0.2, 0.1, 0.7, 0.3, 0.2, 0.1]
    for k in range(2):
        write_run(tmp_path, REAL, k, {"test": (labels, scores)})
    line = summarise(tmp_path, [Cell.parse(REAL)]).results.iloc[0]
    assert [line[f"{m}_mean"] for m in ("balanced_accuracy", "sensitivity", "specificity")] == [
        0.625,
        0.5,
        0.75,
    ]
    assert [line[f"{m}_std"] for m in ("balanced_accuracy", "sensitivity", "specificity")] == [
        0,
        0,
        0,
    ]


def test_comparisons_are_paired_with_the_real_cell_of_all_else_equal(tmp_path):
    names = {
        REAL: 0.0,
        BOTH.format(500): 0.2,
        "train-50_baseline_2mm_real": 0.0,
        "train-50_baseline_2mm_synthetic-500": 0.1,
        "train_baseline_2mm_synthetic-500_steps-matched": 0.1,
        "train_densenet121_2mm_real+classical": 0.1,
    }
    comparisons = summarise(tmp_path, study(tmp_path, names, n=20), **FAST).comparisons
    assert tuple(comparisons.columns) == COMPARISON_COLUMNS
    references = dict(zip(comparisons["cell"], comparisons["reference_cell"], strict=True))
    # densenet121 has no real-only cell; the steps of a matched cell are those of the real one.
    assert references == {
        BOTH.format(500): REAL,
        "train-50_baseline_2mm_synthetic-500": "train-50_baseline_2mm_real",
        "train_baseline_2mm_synthetic-500_steps-matched": REAL,
    }
    assert (comparisons["p_holm"] >= comparisons["p"]).all()
    assert set(comparisons["metric"]) == set(REPORTED)


def test_reference_cells_by_name():
    names = [
        cell.name
        for cell in reference_cells(
            Cell.parse("train-50_baseline_2mm_real+synthetic-5_steps-matched")
        )
    ]
    assert names == ["train-50_baseline_2mm_real_steps-matched", "train-50_baseline_2mm_real"]
    assert reference_cells(Cell.parse(REAL)) == ()


def test_a_reference_that_was_not_asked_for_is_found_in_the_folder(tmp_path):
    cells = study(tmp_path, {REAL: 0.0, BOTH.format(500): 0.2}, n=20)
    summary = summarise(tmp_path, cells[1:], **FAST)
    assert set(summary.results["cell"]) == {BOTH.format(500)}
    assert set(summary.comparisons["reference_cell"]) == {REAL}


def test_holm_is_over_the_cells_of_one_test_set_and_measure(tmp_path):
    effects = {REAL: 0.0} | {BOTH.format(n): 0.6 for n in (500, 1000, 2000, 5000)}
    comparisons = summarise(tmp_path, study(tmp_path, effects), **FAST).comparisons
    for _, family in comparisons.groupby("metric"):
        assert len(family) == 4
        smallest = family.sort_values("p").iloc[0]
        assert smallest["p_holm"] == pytest.approx(min(1, 4 * smallest["p"]))


def test_summaries_are_the_same_every_time_and_do_not_depend_on_other_cells(tmp_path):
    cells = study(tmp_path, {REAL: 0.0, BOTH.format(500): 0.2, BOTH.format(1000): 0.2}, n=20)
    everything = summarise(tmp_path, cells, **FAST)
    again = summarise(tmp_path, cells, **FAST)
    assert everything.results.equals(again.results)
    assert everything.comparisons.equals(again.comparisons)
    fewer = summarise(tmp_path, cells[:2], **FAST)
    assert fewer.results.equals(everything.results.iloc[:2])


def test_one_run_has_no_standard_deviation_but_an_interval(tmp_path):
    cells = study(tmp_path, {REAL: 0.0}, n_runs=1)
    summary = summarise(tmp_path, cells, **FAST)
    assert np.isnan(summary.results.iloc[0]["balanced_accuracy_std"])
    assert (
        summary.results.iloc[0]["balanced_accuracy_ci_low"]
        < summary.results.iloc[0]["balanced_accuracy_mean"]
    )
    assert any("one run only" in note for note in summary.notes)
    write_summary(summary, tmp_path / "results.tsv", tmp_path / "comparisons.tsv", tmp_path)
    assert "\tn/a\t" in (tmp_path / "results.tsv").read_text().splitlines()[1]
    assert list(read_tsv(tmp_path / "comparisons.tsv").columns) == list(COMPARISON_COLUMNS)
    assert {"runs", "measures", "detectable", "selection", "subgroups", "calibration"} <= {
        path.stem for path in tmp_path.glob("*.tsv")
    }


def test_small_test_sets_are_called_small(tmp_path):
    notes = summarise(tmp_path, study(tmp_path, {REAL: 0.0}, n=6), **FAST).notes
    assert notes[0].startswith(
        "test: 6 CN and 6 AD participants; in one run, one participant moves balanced accuracy"
    )
    assert "0.083" in notes[0]


def test_cells_without_runs_are_left_out_and_none_at_all_is_refused(tmp_path):
    cells = study(tmp_path, {REAL: 0.0}, n=20)
    other = Cell.parse(BOTH.format(500))
    assert list(summarise(tmp_path, [*cells, other], **FAST).results["cell"]) == [REAL]
    with pytest.raises(InputError, match="no run has ended yet"):
        summarise(tmp_path, [other])


def test_runs_or_cells_tested_on_other_images_are_refused(tmp_path):
    labels, scores = np.arange(8) < 4, np.linspace(0.1, 0.9, 8)
    write_run(tmp_path / "a", REAL, 0, {"test": (labels, scores)})
    write_run(tmp_path / "a", REAL, 1, {"test": (labels[:7], scores[:7])})
    with pytest.raises(InputError, match=r"not tested on the same images \(e.g. sub-test7\)"):
        summarise(tmp_path / "a", [Cell.parse(REAL)])
    write_run(tmp_path / "b", REAL, 0, {"test": (labels, scores)})
    write_run(tmp_path / "b", BOTH.format(5), 0, {"test": (labels[:7], scores[:7])})
    with pytest.raises(InputError, match=r"not tested on the same images of test \(e.g. sub-test7"):
        summarise(tmp_path / "b", [Cell.parse(REAL), Cell.parse(BOTH.format(5))])


def test_a_nan_score_is_refused_naming_file_and_participant(tmp_path):
    scores = np.linspace(0.1, 0.9, 8)
    scores[3] = np.nan
    write_run(tmp_path, REAL, 0, {"test": (np.arange(8) < 4, scores)})
    with pytest.raises(InputError, match=r"run-0/scores.tsv: sub-test3: score"):
        summarise(tmp_path, [Cell.parse(REAL)])


def test_scores_edited_after_the_run_are_refused(tmp_path):
    cells = study(tmp_path, {REAL: 0.0}, n=20)
    scores = tmp_path / REAL / "run-0" / "scores.tsv"
    write_json(scores.parent / "run.json", {"files": {"scores.tsv": sha256_file(scores)}})
    summarise(tmp_path, cells, **FAST)
    table = read_tsv(scores)
    write_tsv(scores, table.assign(label=["AD", "CN"] * (len(table) // 2)))
    with pytest.raises(InputError, match=r"run-0/scores\.tsv: not as the run wrote it"):
        summarise(tmp_path, cells, **FAST)


def test_runs_record_how_many_real_images_they_saw(tmp_path):
    cells = study(tmp_path, {REAL: 0.0}, n=20)
    record = {"n_real_per_label": {"CN": 50, "AD": 50}}
    (tmp_path / REAL / "run-0" / "run.json").write_text(json.dumps(record))
    assert summarise(tmp_path, cells, **FAST).results.iloc[0]["n_real_per_label"] == "50"


def test_n_is_chosen_on_validation_and_the_papers_way_is_beside_it(tmp_path):
    # On validation 1000 is best; on the test set, by luck, 2000.
    labels = np.arange(40) < 20
    right = {500: (14, 14), 1000: (18, 15), 2000: (15, 17)}
    for n, (on_validation, on_test) in right.items():
        for k in range(2):
            sets = {}
            for name, count in (("validation", on_validation), ("test", on_test)):
                good = np.tile(np.arange(20) < count, 2)
                sets[name] = (labels, np.where(good == labels, 0.9, 0.1))
            write_run(tmp_path, BOTH.format(n), k, sets)
    cells = [Cell.parse(BOTH.format(n)) for n in right]
    selection = summarise(tmp_path, cells, **FAST).tables["selection"]
    honest, papers = (row(selection, chosen_on=name) for name in ("validation", "test"))
    assert (honest["n_synthetic_per_label"], papers["n_synthetic_per_label"]) == (1000, 2000)
    assert (honest["balanced_accuracy"], papers["balanced_accuracy"]) == (0.75, 0.85)
    assert honest["validation_balanced_accuracy"] == 0.9
    assert honest["n_candidates"] == 3


def test_groups_are_scored_where_there_are_enough_people(tmp_path):
    cells = study(tmp_path, {REAL: 0.5}, n=30)
    people = pd.DataFrame(
        {
            "participant_id": [f"sub-test{i}" for i in range(60)],
            "age": [60.0, 70.0, 80.0] * 20,
            "sex": ["F", "M"] * 30,
            "site": ["1"] * 5 + ["2"] * 55,
        }
    )
    groups = summarise(tmp_path, cells, people={"test": people}, **FAST).tables["subgroups"]
    found = set(zip(groups["variable"], groups["group"], strict=True))
    # Site 1 has too few people, and so has anybody of 85 and over.
    assert found == {
        ("age", "under 65"),
        ("age", "65 to 74"),
        ("age", "75 to 84"),
        ("sex", "F"),
        ("sex", "M"),
        ("site", "2"),
    }
    women = row(groups, group="F", metric="balanced_accuracy")
    assert (women["n_cn"], women["n_ad"]) == (15, 15)
    values = []
    for k in range(5):
        scores = pd.read_csv(tmp_path / REAL / f"run-{k}" / "scores.tsv", sep="\t")[::2]
        values.append(balanced_accuracy_score(scores["label"], scores["prediction"]))
    assert women["mean"] == pytest.approx(np.mean(values))


def test_a_study_is_summarised_with_its_split_and_external_tables(tmp_path):
    real = Cell.parse("train_baseline_4mm_real")
    people = pd.DataFrame(
        {
            "participant_id": [f"sub-test{i}" for i in range(40)]
            + [f"sub-train{i}" for i in range(60)],
            "session_id": "ses-M000",
            "diagnosis": ["AD", "CN"] * 50,
            "age": np.linspace(60, 90, 100),
            "sex": ["F", "F", "M", "M"] * 25,
            "site": "1",
        }
    )
    tables = {"test": people[:40], "train": people[40:90], "validation": people[90:]}
    nobody = pd.DataFrame(columns=["participant_id", "session_id", "rule"])
    write_split_folder(
        tmp_path / "splits", tables, balance_table=nobody, exclusions=nobody, record={}
    )
    external = pd.DataFrame(
        {
            "participant_id": [f"sub-aibl{i}" for i in range(40)],
            "session_id": "ses-M000",
            "age": 70,
            "sex": ["F", "M"] * 20,
            "diagnosis": "CN",
            "site": "9",
        }
    )
    write_tsv(tmp_path / "aibl" / "merged.tsv", external)
    (tmp_path / "neuroaug.yaml").write_text(
        "external: {aibl: {caps: aibl, tables: aibl, cohort: aibl}}\n"
        "evaluation: {cells: [train_baseline_4mm_real]}\n"
    )
    study(tmp_path / "evaluation", {real.name: 0.5}, n=20, sets=("test", "aibl"))
    summary = summarise_study(Study.open(tmp_path), [real])
    results = read_tsv(tmp_path / "results.tsv")
    assert list(results["test_set"]) == ["test", "aibl"]
    assert list(results["n_real_per_label"]) == ["25", "25"]
    assert (tmp_path / "comparisons.tsv").is_file()
    groups = summary.tables["subgroups"]
    assert set(groups.loc[groups["test_set"] == "aibl", "group"]) == {"65 to 74", "F", "M", "9"}
    assert (tmp_path / "evaluation" / "subgroups.tsv").is_file()


def test_published_figures_are_those_of_the_papers():
    table = read_tsv(Path(neuroaug.__file__).parent / "report" / "published.tsv")
    assert list(table.columns) == ["cell", "test_set", "metric", "mean", "std", "source"]
    assert not table.duplicated(["cell", "test_set", "metric"]).any()
    known = {
        (c, t): (float(m), float(s))
        for c, t, k, m, s, _ in table.itertuples(index=False)
        if k == "balanced_accuracy"
    }
    assert known["train-50_baseline_2mm_real", "test"] == (0.663, 0.024)
    assert known["train-50_baseline_1mm_real", "aibl"] == (0.665, 0.030)
    assert known["train-50_baseline_2mm_synthetic-10000", "test"] == (0.743, 0.019)
    assert known["train_baseline_2mm_real+synthetic-10000", "test"] == (0.863, 0.018)
    assert known["train_optimised_2mm_real+synthetic-2000", "aibl"] == (0.840, 0.020)
    tpami = table[table["source"].str.startswith("TPAMI")]
    assert len(tpami) == 4 * 14 * 6
    for name in tpami["cell"].unique():
        assert Cell.parse(name).name == name
