"""``neuroaug demo``: the whole protocol on the embedded cohort."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neuroaug.cli.console import command, log
from neuroaug.cli.options import Cores


@command("demo", epilog="Example: neuroaug demo /tmp/neuroaug-demo --cores 2")
def demo(
    folder: Annotated[Path, typer.Argument(help="Where the study goes.")] = Path("neuroaug-demo"),
    cores: Cores = None,
) -> None:
    """Run the whole protocol on a cohort of phantoms: minutes on a laptop, no data needed."""
    from neuroaug.system.packaged_files import shipped
    from neuroaug.workflow.run_study import run

    # Its exit code is not ours: the cohort's unreadable scan is expected to fail.
    run(shipped("configs") / "demo.yaml", folder, cores=cores)
    log.info(
        "the intervals in brackets count the participants too: what other phantoms in the test set "
        "might have given. How size, effect and epochs were chosen: docs/phantom.md"
    )
    log.info("study: %s   report: %s", folder, folder / "report.html")
