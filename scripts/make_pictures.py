"""Draw ``docs/pictures/brains.png``: brains of people above brains that a generator made up.

Run as ``python scripts/make_pictures.py BRAINS.npz TABLE.tsv MODEL --out PNG``. BRAINS holds
``volume`` (72, 84, 104, 89), uint8: skull-stripped T1-weighted images of OpenNeuro ds002748 after
N4 and affine registration, 2 mm; TABLE names their participants, one a row. MODEL is a folder for
the generator; a finished or interrupted one there is taken up. About 20 minutes on one core.

Acknowledgement: Bezmaternykh et al. 2021, Neural Plasticity 8846097; OpenNeuro ds002748, CC0.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from neuroaug.audit.near_copies import image_fingerprint, near_copies
from neuroaug.config import GeneratorConfig
from neuroaug.system.files import sha256_json
from neuroaug.training.train import train

N_HELD_OUT = 18
N_SHOWN = 6
N_DRAWN = 18  # as many as held-out people, so that the two are compared like with like
SEED = 0
# The default sampler, hmc, stays by the code of one person (see what is printed); this one leaves.
SAMPLER = "random-walk"
SETTINGS = GeneratorConfig(width=8, batch_size=4, max_epochs=80, validate_every=20)
CAPTION = (
    "Mid-axial, -coronal and -sagittal slices at 2 mm. Above: the first six of {n} people of "
    "OpenNeuro ds002748 (CC0;\nBezmaternykh et al. 2021) that an RHVAE learned from. Below: the "
    "first six that its sampler {sampler} made up;\nnone chosen. Near copies among {drawn} made "
    "up: of the {n} people learned from {copies}, of {held} never seen {others}. Median "
    "correlation\nwith the nearest of the {n}: {all:.3f}; of {held} of them: {near:.3f}; of the "
    "{held} never seen: {far:.3f}."
)

Volumes = NDArray[np.uint8]


def _rows(images: NDArray[np.floating]) -> list[NDArray[np.floating]]:
    """Middle slices of each direction, people side by side, heads up."""
    x, y, z = (n // 2 for n in images.shape[1:])
    return [
        np.concatenate([np.rot90(slices) for slices in cut], axis=1)
        for cut in (images[:, :, :, z], images[:, :, y, :], images[:, x - 2, :, :])
    ]


def _correlations(
    images: NDArray[np.floating], others: NDArray[np.floating], mask: NDArray[np.bool_]
) -> NDArray[np.floating]:
    """Correlation of every image with every other inside the brain, (n, m)."""

    def unit(volumes: NDArray[np.floating]) -> NDArray[np.floating]:
        voxels = volumes[:, mask].astype(np.float64)
        voxels -= voxels.mean(axis=1, keepdims=True)
        return voxels / np.linalg.norm(voxels, axis=1, keepdims=True)

    return unit(images) @ unit(others).T


def _nearest(
    images: NDArray[np.floating], others: NDArray[np.floating], mask: NDArray[np.bool_]
) -> float:
    """Median over images of the correlation with the nearest other."""
    return float(np.median(_correlations(images, others, mask).max(axis=1)))


def _n_copies(drawn: NDArray[np.floating], people: NDArray[np.floating]) -> int:
    """How many drawn images are an image of `people` again, up to rounding, scale or side."""
    own = [(f"drawn-{i}", "") for i in range(len(drawn))]
    others = [(f"person-{i}", "") for i in range(len(people))]
    prints = {
        key: image_fingerprint(image)
        for key, image in zip([*own, *others], [*drawn, *people], strict=True)
    }
    return len({visit for visit, _ in near_copies(own, others, prints)})


def main() -> None:
    """Train (or take up) the generator, draw, check for copies, write the picture."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("brains", type=Path, help="NPZ with the volumes")
    parser.add_argument("table", type=Path, help="TSV with their participant_id")
    parser.add_argument("model", type=Path, help="folder of the generator")
    parser.add_argument("--out", type=Path, required=True, help="the PNG")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    volumes: Volumes = np.load(arguments.brains)["volume"]
    people = pd.read_csv(arguments.table, sep="\t")["participant_id"].tolist()
    order = np.random.default_rng(SEED).permutation(len(people))
    unseen, learned = np.sort(order[:N_HELD_OUT]), np.sort(order[N_HELD_OUT:])
    names = [people[i] for i in learned]
    split = sha256_json(names)
    lineage = pd.DataFrame(
        {
            "participant_id": names,
            "session_id": "ses-M000",
            "diagnosis": "person",
            "image_sha256": [hashlib.sha256(volumes[i].tobytes()).hexdigest() for i in learned],
            "split": "ds002748",
            "split_hash": split,
        }
    )
    model = train(
        volumes[learned],
        config=SETTINGS,
        label="person",
        out=arguments.model,
        lineage=lineage,
        split_hash=split,
        device="cpu",
        seed=SEED,
    )
    seen, fresh = volumes[learned] / np.float32(255), volumes[unseen] / np.float32(255)
    mask = volumes[learned].mean(axis=0) > 0.2 * 255
    # The generator's own blur brings everything nearer; so its reconstructions are compared too.
    again = model.reconstruct(torch.from_numpy(seen)[:, None])[:, 0].numpy()
    once = model.reconstruct(torch.from_numpy(fresh)[:, None])[:, 0].numpy()
    for name, images in (("training", (seen, again)), ("unseen", (fresh, once))):
        own = np.diag(_correlations(*images, mask))
        print(f"{name} person to the own reconstruction: median {np.median(own):.3f}")
    print(f"unseen person to the nearest training person: {_nearest(fresh, seen, mask):.3f}")
    print(f"the same of their reconstructions: {_nearest(once, again, mask):.3f}")
    spread = np.std(seen[:, mask], axis=0).mean()
    print(
        f"spread of reconstructions over people's: {np.std(again[:, mask], 0).mean() / spread:.2f}"
    )
    sets = {}
    for name in model.samplers:
        drawn = model.sample(N_DRAWN, sampler=name, seed=SEED)[:, 0].numpy()
        print(
            f"{name}: nearest training person {_nearest(drawn, seen, mask):.3f}, unseen person "
            f"{_nearest(drawn, fresh, mask):.3f}, reconstruction of a training person "
            f"{_nearest(drawn, again, mask):.3f}; spread over people's "
            f"{np.std(drawn[:, mask], axis=0).mean() / spread:.2f}; near copies "
            f"{_n_copies(drawn, seen)}"
        )
        sets[name] = drawn
    drawn = sets[SAMPLER]
    rng = np.random.default_rng(SEED)
    fewer = [rng.choice(len(seen), len(fresh), replace=False) for _ in range(20)]
    near = float(np.mean([_nearest(drawn, seen[rows], mask) for rows in fewer]))
    far = _nearest(drawn, fresh, mask)
    caption = CAPTION.format(
        n=len(seen),
        drawn=len(drawn),
        held=len(fresh),
        copies=_n_copies(drawn, seen),
        others=_n_copies(drawn, fresh),
        all=_nearest(drawn, seen, mask),
        sampler=SAMPLER,
        near=near,
        far=far,
    )
    print(caption)
    rows = [*_rows(seen[:N_SHOWN]), *_rows(drawn[:N_SHOWN])]
    heights = [row.shape[0] for row in rows]
    inches, text = 8.4 / rows[0].shape[1], 0.85
    gap = 10  # voxels between people and synthetic
    figure = Figure(figsize=(8.4, (sum(heights) + gap) * inches + text), facecolor="white")
    scale, top = inches / figure.get_figheight(), 1.0
    axes = []
    for n, height in enumerate(heights):
        top -= (height + (gap if n == 3 else 0)) * scale
        axes.append(figure.add_axes((0.03, top, 0.97, height * scale)))
    for place, row in zip(axes, rows, strict=True):
        place.imshow(row, cmap="gray", vmin=0, vmax=1, aspect="equal", interpolation="nearest")
        place.set(xticks=[], yticks=[])
        place.spines[:].set_visible(False)
    axes[1].set_ylabel("people", fontsize=11)
    axes[4].set_ylabel("synthetic", fontsize=11)
    figure.text(0.03, 0.006, caption, fontsize=7.6, va="bottom")
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(arguments.out, dpi=100)


if __name__ == "__main__":
    main()
