"""One visit in a worker of the pool: t1-linear, and the picture for the quality pages."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from neuroaug.imaging.caps import Visit
from neuroaug.preprocessing.steps import qc_pages, t1_linear
from neuroaug.system.files import write_bytes


def work(payload: dict[str, Any]) -> dict[str, Any]:
    """Do one job of `neuroaug.preprocessing.preprocess`.

    Parameters
    ----------
    payload : dict
        From `neuroaug.preprocessing.preprocess.payload`.

    Returns
    -------
    dict
        ``quality`` (score, pass_probability, pass, and the figures they rest on), ``notes``,
        ``seconds``.
    """
    visit = Visit(payload["participant_id"], payload["session_id"])
    caps, target = Path(payload["caps"]), Path(payload["target"])
    if payload["kind"] == "process":
        result = t1_linear.process_visit(
            payload["source"],
            target,
            visit,
            profile=payload["profile"],
            n4_distance=payload["n4_distance"],
            template=payload["template"],
            resolutions=payload["resolutions"],
        )
    else:
        result = t1_linear.complete_visit(
            caps, visit, resolutions=payload["resolutions"], out=target if target != caps else None
        )
    image = qc_pages.registered_image(caps if payload["kind"] == "complete" else target, visit)
    write_bytes(qc_pages.picture_path(target, visit), qc_pages.draw(image))
    quality = asdict(result.quality)
    quality["pass"] = quality.pop("passed")
    return {
        "quality": quality,
        "notes": list(result.notes),
        "seconds": result.seconds,
    }
