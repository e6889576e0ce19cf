"""All registrations of a CAPS in one HTML file: template contours on each head, worst first."""

from __future__ import annotations

import base64
import html
import io
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuroaug.errors import InputError
from neuroaug.imaging import caps as caps_names
from neuroaug.imaging.bids import Visit
from neuroaug.imaging.grid import GRIDS, crop
from neuroaug.imaging.template import load_regions
from neuroaug.preprocessing.records import DECISIONS, read_decisions, read_record
from neuroaug.preprocessing.steps.t1_linear import registered_image
from neuroaug.system.files import atomic_path, read_json

PAGES = "qc.html"
# Where the slices are cut, mm: a little beside the midline, through the thalamus, through the
# ventricles.
SLICES_MM = {"sagittal": 4.0, "coronal": -18.0, "axial": 12.0}
_HEAD, _BRAIN = (255, 200, 0), (0, 220, 255)
_QUALITY = 55
_STYLE = """
body { font: 14px/1.4 system-ui, sans-serif; background: #111; color: #ddd; margin: 1em auto; \
max-width: 60em; }
figure { margin: 0 0 1.2em; } img { display: block; max-width: 100%; } \
figcaption { padding: .2em 0; }
.fail b { color: #f66; } .pass b { color: #6d6; } .phantom { background: #530; padding: .3em .6em; }
code { color: #fff; } .head { color: #fc0; } .brain { color: #0df; }
"""


def picture_path(caps: Path, visit: Visit) -> Path:
    """Path of the picture of a visit, kept until the pages are made."""
    return caps_names.hidden(caps) / "pictures" / f"{visit.stem}.webp"


@lru_cache(maxsize=1)
def _contours() -> dict[str, NDArray[np.uint8]]:
    """Of each plane, the template's outlines: 1 the head's, 2 the brain's, 0 elsewhere."""
    from scipy import ndimage

    head, brain = (crop(region).astype(bool) for region in load_regions())
    planes = {}
    for plane in SLICES_MM:
        drawn = np.zeros(_slice(head, plane).shape, np.uint8)
        for value, region in ((1, head), (2, brain)):
            cut = _slice(region, plane)
            drawn[cut & ~ndimage.binary_erosion(cut)] = value
        planes[plane] = drawn
    return planes


def _slice(volume: NDArray[Any], plane: str) -> NDArray[Any]:
    """One slice as a picture: rows from superior or anterior, columns from left or posterior."""
    axis = ("sagittal", "coronal", "axial").index(plane)
    position = round(SLICES_MM[plane] - GRIDS["1mm"].origin[axis])
    cut: NDArray[Any] = np.take(volume, position, axis=axis).T[::-1]
    return cut


def draw(image: NDArray[np.floating]) -> bytes:
    """Draw three slices of a registered head with the template's contours.

    Parameters
    ----------
    image : array (169, 208, 179)
        On the cropped 1 mm grid.

    Returns
    -------
    bytes
        A WebP picture; equal images give equal bytes.
    """
    from PIL import Image

    if image.shape != GRIDS["1mm"].shape:
        raise InputError(
            f"image of shape {image.shape}: not on the cropped grid {GRIDS['1mm'].shape}"
        )
    low, high = np.percentile(image[::2, ::2, ::2], [1, 99.5])
    panels = []
    for plane, contour in _contours().items():
        grey = np.clip((_slice(image, plane) - low) / max(float(high - low), 1e-9), 0, 1)
        panel = np.repeat((grey * 255).astype(np.uint8)[..., None], 3, axis=2)
        panel[contour == 1] = _HEAD
        panel[contour == 2] = _BRAIN
        panels.append(panel)
    height = max(panel.shape[0] for panel in panels)
    padded = [np.pad(panel, ((0, height - panel.shape[0]), (0, 2), (0, 0))) for panel in panels]
    buffer = io.BytesIO()
    Image.fromarray(np.concatenate(padded, axis=1)).save(buffer, "WEBP", quality=_QUALITY, method=4)
    return buffer.getvalue()


def write_pages(caps: str | Path, path: str | Path | None = None) -> Path:
    """Write the quality pages of a CAPS, the least certain visits first.

    Parameters
    ----------
    caps : path-like
        A CAPS that `neuroaug preprocess` wrote or completed.
    path : path-like, optional
        The file to write; ``qc.html`` in the CAPS by default.

    Returns
    -------
    Path
        The file written, self-contained HTML.
    """
    caps = Path(caps)
    path = Path(path) if path is not None else caps / PAGES
    decisions = read_decisions(caps)
    visits = []
    for visit in caps_names.list_visits(caps):
        record = read_record(caps, visit)
        if record is not None and record.status == "ok" and record.quality:
            visits.append(
                (float(record.quality["pass_probability"]), visit, bool(record.quality["pass"]))
            )
    visits.sort()
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.write(_top(caps, len(visits), sum(not passed for _, _, passed in visits)))
        for probability, visit, passed in visits:
            file.write(_figure(caps, visit, probability, passed, decisions.get(visit)))
        file.write("</body></html>\n")
    return path


def _name(caps: Path) -> str:
    try:
        return str(read_json(caps / caps_names.DESCRIPTION).get("Name", ""))
    except (InputError, AttributeError):
        return ""


def _top(caps: Path, n: int, n_failed: int) -> str:
    name = _name(caps)
    banner = (
        "<p class=phantom>phantom: these heads are made, they are nobody's</p>"
        if "phantom" in name.lower()
        else ""
    )
    return (
        "<!doctype html><html lang=en><head><meta charset=utf-8><title>Registrations</title>"
        f"<style>{_STYLE}</style></head><body><h1>Registrations: {html.escape(name)}</h1>{banner}"
        f"<p>{n} visits, {n_failed} did not pass; the least certain first. The template's "
        "<span class=head>head</span> and <span class=brain>brain</span> are drawn on each image: "
        "the lines should follow the skin and the brain's surface. To overrule, write rows of "
        "<code>participant_id session_id pass</code> into "
        f"<code>{DECISIONS}</code> beside this file (tab separated, pass True or False); "
        "later stages obey it.</p>\n"
    )


def _figure(
    caps: Path, visit: Visit, probability: float, passed: bool, decision: bool | None
) -> str:
    picture = picture_path(caps, visit)
    content = picture.read_bytes() if picture.is_file() else draw(registered_image(caps, visit)[1])
    verdict = "pass" if (passed if decision is None else decision) else "FAIL"
    said = (
        "" if decision is None else f", decided in {DECISIONS} (was {'pass' if passed else 'FAIL'})"
    )
    phantom = " (phantom)" if "phantom" in visit.participant_id.lower() else ""
    encoded = base64.b64encode(content).decode()
    return (
        f'<figure class={verdict.lower()} id="{visit.stem}"><img loading=lazy alt="{visit.stem}" '
        f'src="data:image/webp;base64,{encoded}"><figcaption><b>{verdict}</b> '
        f"{visit.participant_id} {visit.session_id}{phantom}, "
        f"probability {probability:.3f}{said}</figcaption></figure>\n"
    )
