import math
import re

import numpy as np
import pandas as pd
import pytest

from neuroaug.errors import InputError
from neuroaug.published import measures, run_scores
from neuroaug.published.experiments.clustering import k_medoids
from neuroaug.published.markdown import LONG, WIDTH, bullets, filled, measure_tables, signed
from neuroaug.published.page import unfinished
from neuroaug.published.run_scores import RUN_COLUMNS, Score, summarise


def scores(values, measure="accuracy", row="a"):
    return [Score("t", row, "c", run, 7, measure, value) for run, value in enumerate(values)]


def test_scores_read_back_exactly(tmp_path):
    written = scores([1 / 3, 2e-17, 90.0])
    run_scores.write_scores(tmp_path / "t.tsv", written)
    assert (tmp_path / "t.tsv").read_text().splitlines()[
        0
    ] == "table\trow\tcolumn\trun\tseed\tmeasure\tvalue"
    assert run_scores.read_scores(tmp_path / "t.tsv")["value"].tolist() == [1 / 3, 2e-17, 90.0]


def test_a_damaged_value_is_refused(tmp_path):
    path = tmp_path / "t.tsv"
    run_scores.write_scores(path, scores([1.0]))
    path.write_text(path.read_text().replace("1.0", "one"))
    with pytest.raises(InputError, match="not a table of results"):
        run_scores.read_scores(path)


def test_interval_is_students():
    values = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    low, high = run_scores.student_interval(values)
    assert (low + high) / 2 == pytest.approx(3)
    assert (high - low) / 2 == pytest.approx(2.776445 * math.sqrt(2.5 / 5), rel=1e-5)
    further = run_scores.student_interval(values, further=1)
    assert (further[1] - further[0]) / 2 == pytest.approx(2.776445 * math.sqrt(2.5 * 1.2), rel=1e-5)
    assert all(math.isnan(x) for x in run_scores.student_interval(values[:1]))


def test_intervals_hold_what_they_promise():
    rng = np.random.default_rng(0)
    held = further = 0
    for _ in range(400):
        values = rng.normal(size=6)
        low, high = run_scores.student_interval(values[:5])
        held += low <= 0 <= high
        low, high = run_scores.student_interval(values[:5], further=1)
        further += low <= values[5] <= high
    assert 0.92 < held / 400 < 0.98
    assert 0.92 < further / 400 < 0.98


@pytest.mark.parametrize(
    ("published", "low", "high", "measure", "expected"),
    [
        (90, 89, 91, "accuracy", "same"),
        (88, 89, 91, "accuracy", "better"),
        (92, 89, 91, "accuracy", "worse"),
        (67, 80, 90, "GAN-test", "higher"),
        (95, 80, 90, "GAN-test", "lower"),
        (7, 3, 5, "KL(q || p(z|x))", "better"),
        (1, 3, 5, "mmd", "worse"),
        (-93, -90, -88, "log p(x)", "better"),
        (math.nan, 1, 2, "accuracy", "n/a"),
        (1, math.nan, math.nan, "accuracy", "n/a"),
    ],
)
def test_verdicts(published, low, high, measure, expected):
    assert run_scores.verdict(published, low, high, measure) == expected


def test_summary_has_the_published_figure_beside_ours(tmp_path):
    run_scores.write_scores(tmp_path / "t.tsv", scores([80.0, 82.0, 84.0]) + scores([1.0], row="b"))
    published = pd.DataFrame(
        [{"table": "t", "row": "a", "column": "c", "measure": "accuracy", "value": "90"}]
    )
    summary = run_scores.summarise(run_scores.read_scores(tmp_path / "t.tsv"), published)
    assert list(summary.columns) == list(run_scores.SUMMARY_COLUMNS)
    first, second = summary.to_dict("records")
    assert (first["published"], first["ours"], first["n_runs"], first["verdict"]) == (
        90,
        82,
        3,
        "worse",
    )
    assert (second["row"], second["verdict"]) == ("b", "n/a")


def cells(measures, columns=("MNIST",), rows=("VAE",), n_runs=2):
    return pd.DataFrame(
        [
            ("t", r, c, run, 0, m, 1.0 + run)
            for m in measures
            for c in columns
            for r in rows
            for run in range(n_runs)
        ],
        columns=list(RUN_COLUMNS),
    )


NOTHING_PUBLISHED = pd.DataFrame(columns=["table", "row", "column", "measure", "value"])


def test_every_row_of_a_table_has_as_many_columns():
    scores = cells(("KL(q || p(z|x))", "ELBO"))
    lines = "\n".join(measure_tables(scores, summarise(scores, NOTHING_PUBLISHED))).splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 6
    assert [len(re.findall(r"(?<!\\)\|", line)) for line in table] == [5] * 6


def test_tables_are_one_a_measure_and_long_ones_one_a_data_set():
    scores = cells(("ELBO",), columns=("a", "b"), rows=("x", "y"))
    (page,) = measure_tables(scores, summarise(scores, NOTHING_PUBLISHED))
    assert page.count("**ELBO**") == 1
    assert "| x | a |" in page
    scores = cells(("ELBO",), columns=("a", "b"), rows=tuple(map(str, range(LONG))))
    pages = measure_tables(scores, summarise(scores, NOTHING_PUBLISHED))
    assert [page.splitlines()[0] for page in pages] == ["**a, ELBO**", "**b, ELBO**"]


def test_shares_of_runs_have_no_students_interval():
    scores = cells((run_scores.DIVERGED,))
    summary = summarise(scores, NOTHING_PUBLISHED)
    assert summary["ci_low"].isna().all()
    assert "| VAE | 1.50 |  | 2 |" in measure_tables(scores, summary)[0]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (2.84e-15, "0"),
        (-1e-15, "0"),
        (0.0, "0"),
        (0.123456, "+0.123"),
        (-12.34, "-12.3"),
        (3.0, "+3.00"),
    ],
)
def test_differences_carry_their_sign_and_no_rounding_error(value, shown):
    assert signed(value) == shown


def test_runs_still_to_be_made_are_named():
    settings = {"runs": 3, "datasets": {"a": {"title": "A"}, "b": {}}}
    whole = pd.DataFrame({"column": ["A"] * 3 + ["b"] * 3, "run": [0, 1, 2] * 2})
    assert unfinished(settings, whole) == ""
    assert "A (1 of 3), b (3 of 3)" in unfinished(settings, whole[:2])


def test_prose_is_wrapped_and_no_line_becomes_an_item_of_a_list():
    words = "real + synthetic minus RHVAE HMC - 200 " * 12 + "\n\nAnother paragraph."
    text = filled(words)
    assert " ".join(text.split()) == " ".join(words.split())
    assert text.count("\n\n") == 1
    lines = text.splitlines() + bullets([words[:300], "b"]).splitlines()
    assert max(map(len, lines)) <= WIDTH
    items = [line for line in lines if re.match(r" *[-+*#] ", line)]
    assert [item[:6] for item in items] == ["- real", "- b"]


def test_differences_are_paired_by_run():
    table = pd.DataFrame([vars(s) for s in scores([1, 2, 3]) + scores([0, 0], row="b")])
    difference = run_scores.paired_difference(
        table, ("t", "a", "c", "accuracy"), ("t", "b", "c", "accuracy")
    )
    assert difference.tolist() == [1, 2]


def test_nearest_distance_of_a_copy_is_nought():
    training = np.random.default_rng(0).integers(0, 256, (20, 6, 6, 1), dtype=np.uint8)
    moved = np.full_like(training[:1], 0)
    distances = measures.nearest_distances(np.concatenate([training[3:5], moved]), training)
    assert distances[:2].tolist() == [0, 0]
    brute = np.sqrt(((training / 255.0) ** 2).mean((1, 2, 3))).min()
    assert distances[2] == pytest.approx(brute)


def test_mmd_is_nought_on_average_for_one_law_and_grows_with_distance():
    rng = np.random.default_rng(0)
    same = [
        measures.kernel_mmd(rng.normal(size=(80, 5)), rng.normal(size=(80, 5))) for _ in range(40)
    ]
    assert abs(np.mean(same)) < 3 * np.std(same) / math.sqrt(40)
    moved = [
        measures.kernel_mmd(rng.normal(size=(80, 5)), rng.normal(size=(80, 5)) + shift)
        for shift in (0.5, 1.0)
    ]
    assert max(same) < moved[0] < moved[1]


def test_precision_and_recall_tell_missing_from_false_images():
    rng = np.random.default_rng(0)
    places = 20 * np.eye(4)
    real = np.concatenate([place + rng.normal(size=(100, 4)) for place in places])
    missing = np.concatenate([place + rng.normal(size=(200, 4)) for place in places[:2]])
    recall, precision = measures.precision_recall(real, missing)
    assert precision > 0.9
    assert recall < 0.7
    recall, precision = measures.precision_recall(missing, real)
    assert recall > 0.9
    assert precision < 0.7


def test_prd_of_equal_histograms_is_one_and_of_disjoint_ones_nought():
    p = np.array([0.5, 0.5, 0, 0])
    assert measures.f_beta(*measures.prd_curve(p, p), 8) == pytest.approx(1, abs=1e-3)
    assert measures.f_beta(*measures.prd_curve(p, p[::-1]), 8) == pytest.approx(0, abs=1e-9)


def test_f1_does_not_depend_on_the_clusters_names():
    truth = np.repeat([0, 1, 2], 10)
    assert measures.clustering_f1(truth, (truth + 1) % 3) == 1
    found = truth.copy()
    found[:5] = 1
    precision, recall = 10 / 15, 1.0
    expected = (2 * 0.5 / 1.5 + 2 * precision * recall / (precision + recall) + 1) / 3
    assert measures.clustering_f1(truth, found) == pytest.approx(expected)


def test_k_medoids_finds_separate_groups():
    rng = np.random.default_rng(1)
    points = np.concatenate(
        [centre + 0.1 * rng.normal(size=(15, 2)) for centre in ([0, 0], [5, 0], [0, 5])]
    )
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1)
    assert measures.clustering_f1(np.repeat([0, 1, 2], 15), k_medoids(distances, 3, seed=0)) == 1
