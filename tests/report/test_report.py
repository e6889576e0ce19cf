"""The report: one file that stands alone, says what was found, and survives torn files."""

import base64
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from fake_study import CELLS, comparison, fill

from neuroaug.report import write_report
from neuroaug.report.content import cell_text, data_text, p_text, percent
from neuroaug.report.curve_section import sentences
from neuroaug.report.html import SECTIONS
from neuroaug.report.verdict import judge
from neuroaug.study import Study
from neuroaug.system.files import read_tsv, write_json, write_tsv


class Page(HTMLParser):
    """Ids, links, images and text of a page; fails on anything that reaches outside the file."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.images = [], [], []
        self.words, self.open, self.titles = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        assert tag not in ("script", "iframe", "link", "object", "embed")
        assert not any(name.startswith("on") for name in found)
        for name in ("src", "href"):
            if name in found:
                assert found[name].startswith(("data:image/png;base64,", "#"))
        if "id" in found:
            self.ids.append(found["id"])
        if tag == "a":
            self.links.append(found["href"])
        if tag == "img":
            self.images.append(found)
        self.open.append(tag)

    def handle_endtag(self, tag):
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data):
        if self.open and self.open[-1] == "style":
            return
        self.words.append(data)
        if self.open and self.open[-1] == "title":
            self.titles.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return fill(tmp_path_factory.mktemp("fake") / "study")


@pytest.fixture(scope="module")
def page(study):
    return Page(write_report(study).read_text())


def test_one_small_file_that_reaches_nowhere(study, page):
    path = write_report(study)
    assert path == study.report
    assert path.stat().st_size < 5_000_000
    content = path.read_text()
    assert "http" not in content.replace("httpx", "")
    assert not re.search(r"@import|url\(", content)
    assert str(study.root) not in content
    for image in page.images:
        assert base64.b64decode(image["src"].split(",")[1])[:8] == b"\x89PNG\r\n\x1a\n"


def test_same_study_same_bytes(study, tmp_path):
    first = write_report(study, tmp_path / "a.html").read_bytes()
    assert write_report(study, tmp_path / "b.html").read_bytes() == first


def test_ids_are_unique_and_every_link_lands(page):
    assert len(page.ids) == len(set(page.ids))
    assert {link.removeprefix("#") for link in page.links} <= set(page.ids)
    assert {name for name, _, _ in SECTIONS} <= set(page.ids)


def test_a_finished_study_has_no_section_missing(page):
    assert "Not run yet" not in page.text
    assert "could not be read" not in page.text


def test_title_and_every_figure_say_phantom(page):
    assert "phantom" in page.titles[0]
    assert len(page.images) == 7
    for image in page.images:
        assert image["alt"].startswith("Phantom data.")
    assert page.text.count("Phantom data.") >= 5


def test_a_study_of_patients_is_not_called_phantom_and_warns_of_their_images(tmp_path):
    study = fill(tmp_path / "study", phantom=False)
    page = Page(write_report(study).read_text())
    assert "phantom" not in page.text.lower()
    assert "handle it as you handle their scans" in page.text


def test_results_are_the_tables_numbers(page):
    assert "61.1 ± 2.1 [40.0, 81.0]" in page.text
    assert "real + 12 synthetic per label" in page.text
    assert "+3.1" in page.text
    assert "[-12.0, +19.0]" in page.text


def test_classifiers_show_their_curves_steps_and_search(page):
    (curves,) = [image["alt"] for image in page.images if "Learning curves" in image["alt"]]
    for name in (
        "real: 2 runs of 5 epochs",
        "12 synthetic per label only: 2 runs",
        "real + 12 synthetic per label: 2",
    ):
        assert name in curves
    assert (
        "4 to 5 20 to 25 3 62.5 1.5 cpu" in page.text
    )  # epochs, steps, best epoch, accuracy there, minutes
    assert "the best of 7 draws in 2 folds" in page.text
    assert "2 3 0.123 71.2 ± 5.0 3 3 0.123 70.0 ± 5.0" in page.text  # best first
    assert "1 draw(s) diverged" in page.text
    assert "chosen on the 6 real participants of the training set alone" in page.text


def test_the_proof_is_the_audits_and_a_refused_check_is_counted(page, study, tmp_path):
    assert "3 checks, 0 failed" in page.text
    assert "cell generator check against n learned from n against n found result" in page.text
    root = tmp_path / "study"
    shutil.copytree(study.root, root)
    path = root / "evaluation" / CELLS[1] / "leakage.tsv"
    path.write_text(path.read_text().replace("passed", "refused"))
    assert "3 checks, 1 failed" in Page(write_report(Study.open(root)).read_text()).text


def test_auc_and_brier_score_stand_beside_the_rates_where_they_were_written(page, study, tmp_path):
    assert "Differences in AUC" not in page.text  # a study of before
    other = Path(shutil.copytree(study.root, tmp_path / "study"))
    results = read_tsv(other / "results.tsv", ())
    for measure, value in (("auc", 0.7134), ("brier", 0.1874)):
        results = results.assign(
            **{f"{measure}_{part}": value for part in ("mean", "std", "ci_low", "ci_high")}
        )
    write_tsv(other / "results.tsv", results)
    comparisons = read_tsv(other / "comparisons.tsv", ())
    more = comparisons.assign(metric="auc", difference=-0.0321, ci_low=-0.1, ci_high=0.05)
    write_tsv(other / "comparisons.tsv", pd.concat([comparisons, more], ignore_index=True))
    text = Page(write_report(Study.open(other)).read_text()).text
    assert ".713 [.713, .713]" in text
    assert "Brier score (lower is better)" in text
    assert "-.032 [-.100, +.050]" in text
    assert "Differences in AUC and Brier score" in text


def test_worth_in_patients_is_a_sentence_a_picture_and_a_table(page):
    assert (
        "n = 20 per label: 12 synthetic per label (soft labels) only (baseline): worth at least 15 "
        "patients per label [-3, 15] beside the best control, real (baseline)"
    ) in page.text
    assert (
        "at 20 people per label, validation people recommend 12 synthetic per label (soft labels) "
        "only (baseline) (AUC .760 on them)"
    ) in page.text
    assert any("real (baseline): .650" in image["alt"] for image in page.images)


def test_of_equal_arms_a_control_is_recommended():
    curve, worth = read_curve_tables({"real": 0.7, "real+synthetic-12": 0.7})
    assert sentences(curve, worth)[-1].startswith(
        "for this cohort, at 20 people per label, validation people recommend real (baseline)"
    )


def read_curve_tables(arms):
    rows = [
        {"arm": f"baseline_4mm_{name}", "n_per_label": 20, "validation_auc": auc}
        | {"control": name == "real"}
        for name, auc in arms.items()
    ]
    return pd.DataFrame(rows), pd.DataFrame(columns=["arm", "n_per_label"])


def test_forecast_and_folds_of_a_generator_are_shown(study, tmp_path):
    other = Path(shutil.copytree(study.root, tmp_path / "study"))
    model = other / "models" / "train" / "AD"
    told = {name: [0.62, 0.5, 0.7] for name in ("rule", "control", "difference")}
    write_json(model / "forecast.json", {**told, "n": [10, 12]})
    curve = {"fold": [1, 1, 2, 2], "epoch": [1, 2, 1, 2], "steps": [5, 10, 5, 10]}
    write_tsv(model / "folds.tsv", pd.DataFrame({**curve, "elbo": [-3.0, -2.0, -1.0, -2.0]}))
    page = Page(write_report(Study.open(other)).read_text())
    assert "train AD: these images cannot teach more than AUC 0.620 [0.500, 0.700]" in page.text
    assert "on 22 validation people" in page.text
    assert any("train AD: 8 steps" in image["alt"] for image in page.images)  # mean of 10 and 5


def test_verdict_gives_difference_interval_and_meaning(page):
    assert "shows no difference" in page.text
    assert "+3.1 points of balanced accuracy, 95 % interval -12.0 to +19.0" in page.text
    assert "from 12.0 points worse to 19.0 points better" in page.text


def test_verdict_says_what_a_small_study_cannot_see(page):
    assert "one alone moves the balanced accuracy of a run by up to 16.7 points" in page.text
    assert "a true difference smaller than 23 points would mostly go unseen" in page.text


def test_what_went_wrong_is_said(page):
    assert "sub-broken" in page.text
    assert "truncated gzip <b>" in page.text  # escaped in the file, so that it reads as text
    assert "diagnosis changes" in page.text
    assert "learned metric is flat" in page.text
    assert "20 % of the moves were accepted" in page.text
    assert "1.0.fake" in page.text


def test_montage_holds_real_and_synthetic_images(page):
    captions = [image["alt"] for image in page.images if "Slices" in image["alt"]]
    assert len(captions) == 2
    for caption in captions:
        assert "3 of the 3 images learned from" in caption
        assert "synthetic images 1 to 3" in caption


@pytest.mark.parametrize("keep", ["neuroaug.yaml", "models"])
def test_stages_not_run_yet_are_named_not_errors(keep, study, tmp_path):
    order = ["neuroaug.yaml", "caps", "splits", "models"]
    root = tmp_path / "study"
    root.mkdir()
    for name in order[: order.index(keep) + 1]:
        source = study.root / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, root / name)
    page = Page(write_report(Study.open(root)).read_text())
    assert "Not known yet" in page.text
    assert page.text.count("Not run yet.") >= 4
    assert "could not be read" not in page.text


def test_a_torn_file_costs_its_section_and_is_named(study, tmp_path):
    torn = {
        "results": "results.tsv",
        "comparisons": "comparisons.tsv",
        "generators": "models/train/CN/history.csv",
        "training": "evaluation/train_baseline_4mm_real/run-0/history.tsv",
        "search": "search/4mm/draws.tsv",
        "participants": "splits/test.tsv",
        "draws": "synthetic/train/AD/participants.tsv",
        "preprocessing": "caps/qc.tsv",
    }
    root = tmp_path / "study"
    shutil.copytree(study.root, root)
    for name in torn.values():
        (root / name).write_bytes(b"\xff\xfe\x00garbage")
    content = write_report(Study.open(root)).read_text()
    parts = {
        name: content.split(f'<h2 id="{name}">')[1].split("</section>")[0]
        for name in [*torn, "versions", "leakage"]
    }
    for section, name in torn.items():
        assert "could not be read" in parts[section]
        assert name.split("/")[-1] in parts[section]
    for section in ("versions", "leakage"):
        assert "could not be read" not in parts[section]
        assert "<table>" in parts[section]


def test_a_failed_write_leaves_the_earlier_report(study, tmp_path, monkeypatch):
    out = tmp_path / "report.html"
    out.write_text("earlier")
    monkeypatch.setattr(
        "neuroaug.system.files.os.replace", lambda *_: (_ for _ in ()).throw(OSError("no"))
    )
    with pytest.raises(OSError, match="no"):
        write_report(study, out)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    assert out.read_text() == "earlier"


@pytest.mark.parametrize(
    ("rows", "outcome"),
    [
        ([], "unknown"),
        ([(0.02, 0.1, 0.2, 0.01)], "helped"),
        ([(-0.2, -0.1, -0.02, 0.01)], "hurt"),
        ([(-0.1, 0.02, 0.2, 0.9)], "not shown"),
        ([(0.02, 0.1, 0.2, 0.01), (-0.2, -0.1, -0.02, 0.01)], "mixed"),
        (
            [(0.02, 0.1, 0.2, 0.2)],
            "not shown",
        ),  # better by its interval alone, not after correction
        ([(float("nan"), 0.1, 0.2, 0.2)], "unknown"),
    ],
)
def test_verdict_follows_the_intervals_and_the_correction(rows, outcome):
    table = pd.DataFrame([comparison(CELLS[1 + i % 2], *row) for i, row in enumerate(rows)])
    assert judge(table if rows else None).outcome == outcome


def test_verdict_counts_every_comparison_not_the_best_one():
    table = pd.DataFrame(
        [comparison(CELLS[1], 0.02, 0.1, 0.2, 0.01), comparison(CELLS[2], -0.1, 0.0, 0.1, 1.0)]
    )
    assert "in 1 of 2 comparisons" in judge(table).headline


def test_of_many_comparisons_those_that_show_something_are_said_and_the_rest_folded(
    study, tmp_path
):
    rows = [
        comparison(CELLS[1], 0.02, 0.1, 0.2, 0.01),
        *[comparison(CELLS[2], -0.1, 0.0, 0.1, 1.0)] * 9,
    ]
    verdict = judge(pd.DataFrame(rows))
    assert (len(verdict.sentences), len(verdict.folded)) == (1, 9)
    assert "by more than random variation explains" in verdict.sentences[0]
    root = tmp_path / "study"
    shutil.copytree(study.root, root)
    write_tsv(root / "comparisons.tsv", pd.DataFrame(rows))
    page = Page(write_report(Study.open(root)).read_text())
    assert "9 further comparisons that show no difference" in page.text
    assert "mostly go unseen" in page.text  # the cautions stay


def test_cells_without_synthetic_images_do_not_answer_the_question():
    table = pd.DataFrame([comparison("train_baseline_4mm_real+classical", 0.02, 0.1, 0.2, 0.01)])
    assert judge(table).outcome == "unknown"


def test_words_and_numbers_read_as_people_write_them():
    assert percent("0.663") == "66.3"
    assert percent(0.031, sign=True) == "+3.1"
    assert percent(None) == percent("n/a") == "–"
    assert p_text(0.0004) == "< .001"
    assert p_text("0.034") == ".034"
    assert p_text(1.0) == "1"
    assert cell_text(float("nan")) == "–"
    assert (
        data_text("real+classical+synthetic-500")
        == "real + classical augmentation + 500 synthetic per label"
    )
    assert data_text("synthetic-20") == "20 synthetic per label only"
