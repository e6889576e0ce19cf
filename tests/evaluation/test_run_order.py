"""Order and seeds as pure functions."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from neuroaug.evaluation.run_order import epoch_order, matched_items, run_seed, steps_per_epoch
from neuroaug.system.randomness import CLASSIFIER


@given(n=st.integers(1, 40), seed=st.integers(0, 2**32 - 1), epoch=st.integers(1, 50))
def test_a_whole_pass_shows_every_image_once(n, seed, epoch):
    assert sorted(epoch_order(n, seed, epoch)) == list(range(n))


@settings(max_examples=50)
@given(
    n=st.integers(1, 30),
    n_items=st.integers(1, 70),
    n_epochs=st.integers(1, 8),
    seed=st.integers(0, 99),
)
def test_slices_of_passes_show_images_equally_often(n, n_items, n_epochs, seed):
    shown = np.concatenate(
        [epoch_order(n, seed, epoch, n_items) for epoch in range(1, n_epochs + 1)]
    )
    assert len(shown) == n_items * n_epochs
    counts = np.bincount(shown, minlength=n)
    assert counts.max() - counts.min() <= 1


def test_an_epoch_s_order_does_not_depend_on_the_epochs_before_it():
    alone = epoch_order(20, 3, 7)
    for epoch in range(1, 7):
        epoch_order(20, 3, epoch)
    np.testing.assert_array_equal(epoch_order(20, 3, 7), alone)
    assert not np.array_equal(alone, epoch_order(20, 3, 8))
    assert not np.array_equal(alone, epoch_order(20, 4, 7))


def test_seeds_of_runs_differ_and_do_not_slide_along():
    """With seed + k, run 1 of seed 0 would be run 0 of seed 1."""
    seeds = {run_seed(seed, k) for seed in range(20) for k in range(20)}
    assert len(seeds) == 400
    assert CLASSIFIER.seed("a", 1) != CLASSIFIER.seed("a1")


def test_matched_steps_are_those_of_the_real_cell():
    assert steps_per_epoch(100, 8) == 13
    assert matched_items(100, 8) == 104
    assert matched_items(96, 8) == 96
