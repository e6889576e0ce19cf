"""One visit in a worker of the pool: t1-linear, and the picture for the quality pages."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from neuroaug.config import PreprocessingConfig
from neuroaug.imaging.bids import Visit
from neuroaug.preprocessing.steps import qc_pages, t1_linear
from neuroaug.system.files import write_bytes


def work(payload: dict[str, Any]) -> dict[str, Any]:
    """Do one job of a `PreprocessingPlan`.

    Parameters
    ----------
    payload : dict
        From `neuroaug.preprocessing.run.payload`.

    Returns
    -------
    dict
        ``quality`` (score, pass_probability, pass, and the figures they rest on), ``notes``,
        ``seconds``.
    """
    visit = Visit(payload["participant_id"], payload["session_id"])
    caps, target = Path(payload["caps"]), Path(payload["target"])
    config = PreprocessingConfig(**payload["config"])
    if payload["kind"] == "process":
        result = t1_linear.process_visit(
            payload["source"], target, visit, config, choice=payload.get("choice", "")
        )
        _, image, _ = t1_linear.registered_image(target, visit)
    else:
        result = t1_linear.complete_visit(caps, visit, config, out=target)
        _, image, _ = t1_linear.registered_image(caps, visit)
    write_bytes(qc_pages.picture_path(target, visit), qc_pages.draw(image))
    quality = asdict(result.quality)
    quality["pass"] = quality.pop("passed")
    return {
        "quality": quality,
        "notes": list(result.notes),
        "seconds": result.seconds,
    }
