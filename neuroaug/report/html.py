"""From a study to its report: collect the sections, render the template, write one file."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from neuroaug import __version__
from neuroaug.errors import NeuroaugError
from neuroaug.report import (
    classifier_sections,
    curve_section,
    evaluation_sections,
    generator_sections,
    study_sections,
)
from neuroaug.report.content import ReportSection
from neuroaug.report.verdict import Verdict, judge
from neuroaug.statistics.columns import COMPARISON_COLUMNS
from neuroaug.study import Study
from neuroaug.system.files import read_tsv, write_text
from neuroaug.system.packaged_files import packaged

Fill = Callable[[Study, ReportSection], None]
SECTIONS: tuple[tuple[str, str, Fill], ...] = (
    ("results", "Results", evaluation_sections.results),
    ("comparisons", "Comparisons with real images alone", evaluation_sections.comparisons),
    ("training", "Training of the classifiers", classifier_sections.training),
    ("search", "Search of the optimised network", classifier_sections.search),
    ("images", "Real and synthetic images side by side", generator_sections.images),
    ("generators", "Generators", generator_sections.generators),
    ("draws", "Draws", generator_sections.synthetic_sets),
    ("participants", "Participants and splits", study_sections.participants),
    ("leakage", "Proof that nobody tested was learned from", evaluation_sections.leakage),
    ("preprocessing", "Preprocessing", study_sections.preprocessing),
    ("failures", "Failures", study_sections.failures),
    ("details", "Further tables", evaluation_sections.further),
    ("configuration", "Configuration", study_sections.configuration),
    ("versions", "Versions", study_sections.software),
)

CURVE = ("curve", "What the images are worth in patients", curve_section.curve)
"""Stands after the comparisons where a curve was asked for; most studies have none."""


def write_report(study: Study, path: str | os.PathLike[str] | None = None) -> Path:
    """Write a study's report: one HTML file with its images inside, no script, no network.

    Stages that have not run are named as such; a file that cannot be read is named in its section
    and costs no other section.

    Parameters
    ----------
    study : Study
        The study to report on.
    path : path-like, optional
        The file to write; by default ``report.html`` in the study.

    Returns
    -------
    Path
        The file written.
    """
    path = Path(path) if path is not None else study.report
    write_text(path, render(study))
    return path


def render(study: Study) -> str:
    """Render a study's report as HTML text."""
    import jinja2

    phantom = study_sections.is_phantom(study)
    sections = [
        _collect(study, ReportSection(name, title, phantom=phantom), fill)
        for name, title, fill in _sections(study)
    ]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(packaged("report", "templates")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["base64"] = lambda png: base64.b64encode(png).decode("ascii")
    return environment.get_template("report.html.j2").render(
        name=study.root.name,
        phantom=phantom,
        question=_question(study),
        verdict=_verdict(study),
        sections=sections,
        version=__version__,
    )


def _sections(study: Study) -> list[tuple[str, str, Fill]]:
    sections = list(SECTIONS)
    if (study.root / curve_section.FOLDER).is_dir():
        sections.insert(2, CURVE)
    return sections


def _question(study: Study) -> str | None:
    """What is told apart; None where more labels than two leave it open."""
    try:
        return study.config.question
    except NeuroaugError:
        return None


def _verdict(study: Study) -> Verdict:
    """Judge the comparisons; where they give an answer, add what the study is too small to see."""
    try:
        known = study.comparisons.is_file()
        verdict = judge(read_tsv(study.comparisons, COMPARISON_COLUMNS) if known else None)
        if not (verdict.sentences or verdict.folded):
            return verdict
        return replace(verdict, cautions=tuple(evaluation_sections.cautions(study)))
    except NeuroaugError as error:
        return Verdict("unknown", f"Not known: {error}")


def _collect(study: Study, section: ReportSection, fill: Fill) -> ReportSection:
    try:
        fill(study, section)
    except NeuroaugError as error:  # a torn table is a finding to report, not the end of the report
        section.problem = str(error)
    return section
