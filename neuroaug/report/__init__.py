"""One self-contained HTML file that says what a study did and found."""

from neuroaug.report.html import write_report

__all__ = ["write_report"]
