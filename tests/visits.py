"""Visits, raw and preprocessed, and a stand-in for ANTs, that the tests of preprocessing share."""

import ctypes
import hashlib
import json
import sys

import numpy as np

from neuroaug.config import PreprocessingConfig
from neuroaug.imaging import caps as caps_names
from neuroaug.imaging.bids import Visit
from neuroaug.imaging.grid import GRIDS, UNCROPPED
from neuroaug.imaging.nifti import write_volume
from neuroaug.preprocessing import records

FAST = PreprocessingConfig(profile="fast", resolutions=("1mm", "2mm", "4mm"))
SMALL = PreprocessingConfig(profile="fast", timeout_s=60)

# Writes, for every file of a visit, bytes that depend on the scan alone, slowly enough to be
# interrupted.
STAND_IN = """
import os, signal, time
from pathlib import Path
from neuroaug.errors import InputError
from neuroaug.system.files import write_bytes
from neuroaug.imaging import caps
from neuroaug.imaging.bids import Visit
from neuroaug.preprocessing.steps.quality import calibration

def work(payload):
    visit = Visit(payload["participant_id"], payload["session_id"])
    target = Path(payload["target"])
    with open(os.environ["STAND_IN_LOG"], "a") as log:
        log.write(f"{visit} {payload['kind']}\\n")
    content = Path(payload["source"]).read_bytes()
    if b"broken" in content:
        raise InputError(f"{payload['source']}: broken")
    if b"hang" in content:
        time.sleep(600)
    paths = [caps.t1_linear_affine(target, visit)]
    paths += [caps.t1_linear_image(target, visit, cropped=False)]
    paths += [caps.t1_linear_image(target, visit, r) for r in payload["config"]["resolutions"]]
    for i, path in enumerate(paths):
        write_bytes(path, content * (i + 1))
        (path.parent / ".tmp-1-torn").write_bytes(b"half")
        time.sleep(float(os.environ.get("STAND_IN_SECONDS", "0")) / len(paths))
        if b"crash" in content and i == 1:
            os.kill(os.getpid(), signal.SIGSEGV)
        if b"killed" in content and i == 2:  # as the kernel does when memory runs out
            os.kill(os.getpid(), signal.SIGKILL)
        if b"hungry" in content and i == 2:
            bytearray(1 << 62)
        if b"large" in content and i == 2:
            block = bytearray(600 * 10**6)
            time.sleep(2)
        if b"stuck" in content and i == 2:
            time.sleep(600)
        (path.parent / ".tmp-1-torn").unlink()
    write_bytes(caps.t1_linear_sidecar(target, visit), b"{}")
    quality = {"score": 1.2, "pass_probability": 0.9, "pass": True, "calibration": calibration()}
    write_bytes(target / ".neuroaug" / "pictures" / f"{visit.stem}.webp", b"picture")
    return {"quality": quality, "notes": [], "seconds": 0.0}
"""


def scan(root, participant, session="ses-M000", content=b"scan"):
    path = root / participant / session / "anat" / f"{participant}_{session}_T1w.nii.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def tree(root):
    """Every file and its bytes (their hash), the time in sidecars apart."""
    found = {}
    for path in sorted(root.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            if path.name.endswith("_T1w.json") and content != b"{}":
                content = json.dumps(
                    {k: v for k, v in json.loads(content).items() if k != "seconds"}
                ).encode()
            found[path.relative_to(root).as_posix()] = hashlib.sha256(content).hexdigest()
    return found


def failures(caps):
    return {
        (r.participant_id, r.session_id): (r.stage, r.reason) for r in records.read_failures(caps)
    }


def decide(caps, visit, verdict):
    """Add the user's own verdict to ``qc-decisions.tsv``."""
    path = caps / records.DECISIONS
    before = path.read_text() if path.exists() else "participant_id\tsession_id\tpass\n"
    path.write_text(f"{before}{visit.participant_id}\t{visit.session_id}\t{verdict}\n")


def command(caps, bids):
    code = (
        "from neuroaug.config import PreprocessingConfig as C;"
        "from neuroaug.preprocessing.preprocess import preprocess;"
        "config = C(profile='fast', timeout_s=60);"
        f"s = preprocess({str(caps)!r}, bids={str(bids)!r}, config=config, n_procs=2,"
        " target='visit_stand_in:work');"
        "print(s.n_ok, s.n_failed, s.n_skipped)"
    )
    return [sys.executable, "-c", code]


def many(root, n):
    for i in range(n):
        scan(root, f"sub-{i:03d}", content=b"broken" if i % 7 == 3 else f"scan {i}".encode())
    return root


def clinica_caps(root, version="0.11.0", n=1, cropped=True):
    """A CAPS laid out as Clinica writes it, smooth blobs for heads, cropped or uncropped."""
    (root / "subjects").mkdir(parents=True)
    description = {
        "Name": "x",
        "BIDSVersion": "1.7.0",
        "CAPSVersion": "1.0.0",
        "DatasetType": "derivative",
        "Processing": [
            {
                "Name": "t1-linear",
                "ClinicaVersion": version,
                "Author": "a",
                "Machine": "m",
                "InputPath": "/i",
            }
        ],
    }
    (root / "dataset_description.json").write_text(json.dumps(description))
    grid = GRIDS["1mm"] if cropped else UNCROPPED
    axes = np.meshgrid(*(np.linspace(-1, 1, length) for length in grid.shape), indexing="ij")
    for i in range(n):
        visit = Visit(f"sub-C{i}", "ses-M000")
        data = np.exp(-3 * sum(axis**2 for axis in axes)) * (100 + i)
        write_volume(
            caps_names.t1_linear_image(root, visit, cropped=cropped),
            data.astype(np.float32),
            grid.affine,
            level=1,
        )
        caps_names.t1_linear_affine(root, visit).write_bytes(b"affine")
    return root


def obey_modes():
    """Give up root's right to read and write what its mode forbids, where the tests run as root."""
    for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        # 24 is PR_CAPBSET_DROP, for what is executed next.
        ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)
