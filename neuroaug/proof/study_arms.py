"""The arms of the study: each gives scores of validation and test people after n labelled ones."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from neuroaug.controls.brain_age import fit_brain_age
from neuroaug.controls.linear_classifier import fit_linear
from neuroaug.controls.linear_score import ImageComponents, LinearScore
from neuroaug.proof.anatomies import recipe_draws
from neuroaug.proof.people import Values
from neuroaug.proof.strided_cnn import Examples, TrainedCnn
from neuroaug.proof.study_bench import Bench, Scores
from neuroaug.proof.study_splits import Rows

Arm = Callable[[Bench], Scores]


def _real(bench: Bench) -> Scores:
    return bench.of_cnn(bench.cnn(bench.real))


def _duplicates(bench: Bench) -> Scores:
    times = max(1, bench.settings.n_draws // bench.n)
    real = bench.real
    return bench.of_cnn(
        bench.cnn(Examples(real.images.repeat(times, 1, 1, 1, 1), real.targets.repeat(times)))
    )


def shifted(strength: float) -> Callable[[Tensor, torch.Generator], Tensor]:
    """Classical augmentation of a strength: shifts, turns, scales, brightness; no flips.

    Left and right of these images were not verified, and dementia is not symmetric.
    """

    def augment(images: Tensor, generator: torch.Generator) -> Tensor:
        n, flat = len(images), images.shape[-1] == 1
        draws = torch.randn(n, 5, generator=generator) * strength
        angle = 0.08 * draws[:, 0]
        scale = 1 + 0.04 * draws[:, 1]
        cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
        theta = torch.zeros(n, 2, 3)
        theta[:, 0, 0], theta[:, 0, 1], theta[:, 0, 2] = cos, -sin, 0.04 * draws[:, 2]
        theta[:, 1, 0], theta[:, 1, 1], theta[:, 1, 2] = sin, cos, 0.04 * draws[:, 3]
        # Turned about the third axis: its places are channels.
        channels = images[:, 0].permute(0, 3, 1, 2)
        grid = torch.nn.functional.affine_grid(theta, list(channels.shape), align_corners=False)
        moved = torch.nn.functional.grid_sample(
            channels, grid, align_corners=False, padding_mode="border"
        )
        bright = (1 + 0.05 * draws[:, 4]).reshape(-1, 1, 1, 1)
        out = (moved * bright).clamp(0, 1).permute(0, 2, 3, 1)[:, None]
        return out if not flat else out.contiguous()

    return augment


STRENGTHS = (0.25, 0.5, 1.0)
"""Of classical augmentation; validation people choose."""


def _best_classical(bench: Bench) -> tuple[TrainedCnn, float]:
    tried = [(bench.cnn(bench.real, augment=shifted(s)), s) for s in STRENGTHS]
    return max(tried, key=lambda one: one[0].validation_auc)


def _classical(bench: Bench) -> Scores:
    return bench.of_cnn(_best_classical(bench)[0])


def _test_time(bench: Bench) -> Scores:
    trained, strength = _best_classical(bench)
    augment = shifted(strength)

    def score(rows: Rows) -> Values:
        generator = torch.Generator().manual_seed(bench.seed)
        images = bench.images(rows)
        versions = [images, *(augment(images, generator) for _ in range(8))]
        return np.mean([trained.log_odds(x) for x in versions], axis=0)

    return bench.scored(score)


def _mixup(bench: Bench) -> Scores:
    return bench.of_cnn(bench.cnn(bench.real, mixup=True))


def _ensemble(bench: Bench) -> Scores:
    found = [bench.of_cnn(bench.cnn(bench.real, seed=bench.seed + j)) for j in range(5)]
    return {name: np.mean([one[name] for one in found], axis=0) for name in found[0]}


def _components(bench: Bench, rows: Rows) -> ImageComponents:
    images = bench.images(rows)
    return ImageComponents.of(lambda a, b: images[a:b], len(rows))


def _linear_scores(bench: Bench, score: LinearScore) -> Scores:
    def of(rows: Rows) -> Values:
        images = bench.images(rows)
        return score.of(lambda a, b: images[a:b], len(rows))

    return bench.scored(of)


def _linear(bench: Bench) -> Scores:
    score, _ = fit_linear(_components(bench, bench.train), bench.train_labels)
    return _linear_scores(bench, score)


def _svm(bench: Bench) -> Scores:
    from sklearn.svm import SVC

    flat = bench.real.images.flatten(1).numpy()
    machine = SVC(kernel="linear", C=1.0).fit(flat - flat.mean(0), bench.train_labels > 0.5)
    return bench.scored(
        lambda rows: machine.decision_function(bench.images(rows).flatten(1).numpy() - flat.mean(0))
    )


def _brain_age(bench: Bench) -> Scores:
    rows = bench.draw.everyone
    labelled = np.isin(rows, bench.train)
    targets = np.nan_to_num(bench.draw.labels[rows])
    place = {int(row): k for k, row in enumerate(rows)}
    for row, label in zip(bench.train, bench.train_labels, strict=True):
        targets[place[int(row)]] = label
    found = fit_brain_age(_components(bench, rows), bench.ages[rows], targets, labelled)

    def score(some: Rows) -> Values:
        images = bench.images(some)
        read = found.age.of(lambda a, b: images[a:b], len(some))
        return found.log_odds(read, bench.ages[some])

    return bench.scored(score)


def _both_controls(bench: Bench) -> Scores:
    both = [_linear(bench), _brain_age(bench)]
    units = [max(float(np.std(scores["validation"])), 1e-9) for scores in both]
    return {
        name: np.sum([s[name] / unit for s, unit in zip(both, units, strict=True)], axis=0)
        for name in both[0]
    }


def _pretrained_on_age(bench: Bench) -> Scores:
    """A CNN that first tells the older half of everyone from the younger one."""
    rows = bench.draw.everyone
    older = (bench.ages[rows] > np.median(bench.ages[rows])).astype(float)
    start = bench.cnn(bench.examples(rows, older)).network
    return bench.of_cnn(bench.cnn(bench.real, start=start))


def _rule(bench: Bench) -> Scores:
    return bench.scored(bench.prior_law.scores)


def _rule_without_prior(bench: Bench) -> Scores:
    law = bench.lawful(bench.linear(bench.draw.everyone), prior=False)
    return bench.scored(law.scores)


def _rule_of_labelled(bench: Bench) -> Scores:
    law = bench.lawful(bench.linear(np.sort(bench.train)), prior=True)
    return bench.scored(law.scores)


def _network_rule(bench: Bench) -> Scores:
    return bench.scored(bench.lawful(bench.network(), prior=True).scores)


def _soft(bench: Bench) -> Scores:
    return bench.of_cnn(bench.cnn(bench.drawn(bench.prior_law, soft=True)))


def _soft_without_texture(bench: Bench) -> Scores:
    return bench.of_cnn(bench.cnn(bench.drawn(bench.prior_law, soft=True, texture=False)))


def _hard(bench: Bench) -> Scores:
    return bench.of_cnn(bench.cnn(bench.drawn(bench.prior_law, soft=False)))


def _soft_without_prior(bench: Bench) -> Scores:
    law = bench.lawful(bench.linear(bench.draw.everyone), prior=False)
    return bench.of_cnn(bench.cnn(bench.drawn(law, soft=True)))


def _soft_of_labelled(bench: Bench) -> Scores:
    law = bench.lawful(bench.linear(np.sort(bench.train)), prior=True)
    return bench.of_cnn(bench.cnn(bench.drawn(law, soft=True)))


def _merged(bench: Bench) -> Scores:
    return bench.of_cnn(bench.cnn(bench.real.and_also(bench.drawn(bench.prior_law, soft=False))))


def _soft_then_real(bench: Bench) -> Scores:
    start = bench.cnn(bench.drawn(bench.prior_law, soft=True)).network
    return bench.of_cnn(bench.cnn(bench.real, start=start))


def _soft_unlabelled(bench: Bench) -> Scores:
    rows = bench.draw.everyone
    odds = bench.prior_law.scores(rows)
    return bench.of_cnn(bench.cnn(bench.examples(rows, 1 / (1 + np.exp(-odds)))))


def _network_soft(bench: Bench) -> Scores:
    law = bench.lawful(bench.network(), prior=True)
    return bench.of_cnn(bench.cnn(bench.drawn(law, soft=True)))


def _network_hard_merged(bench: Bench) -> Scores:
    law = bench.lawful(bench.network(), prior=False)
    return bench.of_cnn(bench.cnn(bench.real.and_also(bench.drawn(law, soft=False))))


def _recipe(bench: Bench) -> tuple[Tensor, Tensor]:
    where = bench.folder / f"recipe-{bench.n}"
    settings = bench.settings
    return recipe_draws(bench.draw, bench.train, settings.recipe, where, settings.n_draws)


def _recipe_alone(bench: Bench) -> Scores:
    return bench.of_cnn(bench.cnn(Examples(*_recipe(bench))))


def _recipe_merged(bench: Bench) -> Scores:
    return bench.of_cnn(bench.cnn(bench.real.and_also(Examples(*_recipe(bench)))))


def _oracle(bench: Bench) -> Scores:
    """As many true further people as there are: what a known number of patients is worth."""
    rows = np.concatenate([rows[: 2 * bench.n] for rows in bench.draw.pool.values()])
    return bench.of_cnn(bench.cnn(bench.examples(rows)))


ARMS: dict[str, Arm] = {
    "real": _real,
    "duplicates": _duplicates,
    "classical": _classical,
    "tta": _test_time,
    "mixup": _mixup,
    "ensemble": _ensemble,
    "linear": _linear,
    "svm": _svm,
    "brain-age": _brain_age,
    "linear+brain-age": _both_controls,
    "pretrained-age": _pretrained_on_age,
    "oracle": _oracle,
    "bayes-rule": _rule,
    "bayes-rule-no-prior": _rule_without_prior,
    "bayes-rule-labelled-only": _rule_of_labelled,
    "bayes-rule-network": _network_rule,
    "recipe": _recipe_alone,
    "real+recipe": _recipe_merged,
    "law-soft": _soft,
    "law-soft-no-texture": _soft_without_texture,
    "law-soft-no-prior": _soft_without_prior,
    "law-soft-labelled-only": _soft_of_labelled,
    "law-hard": _hard,
    "real+law-hard": _merged,
    "law-soft-then-real": _soft_then_real,
    "soft-unlabelled": _soft_unlabelled,
    "network-soft": _network_soft,
    "real+network-hard": _network_hard_merged,
}

CONTROLS = (
    "real",
    "duplicates",
    "classical",
    "tta",
    "mixup",
    "ensemble",
    "linear",
    "svm",
    "brain-age",
    "linear+brain-age",
    "pretrained-age",
)
"""Real images and labels, and ages; nothing drawn, no law."""

SYNTHETIC = (
    "recipe",
    "real+recipe",
    "law-soft",
    "law-soft-no-texture",
    "law-soft-no-prior",
    "law-soft-labelled-only",
    "law-hard",
    "real+law-hard",
    "law-soft-then-real",
    "network-soft",
    "real+network-hard",
)
