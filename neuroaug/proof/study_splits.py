"""Splits of the study: who is tested, who chooses epochs, and the people of every n, nested."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuroaug.errors import InputError
from neuroaug.proof.people import People, Task, Values
from neuroaug.system.randomness import KEYED

Rows = NDArray[np.intp]


@dataclass(frozen=True)
class Draw:
    """One split of a data set for a task.

    Attributes
    ----------
    people : People
        Everyone.
    labels : ndarray, shape (N,)
        1, 0, or NaN.
    test, validation : ndarray of int
        Rows, equally many of both classes.
    pool : dict of int to ndarray of int
        Rows that are neither, by class, in the order in which they are drawn for n.
    neither : ndarray of int
        Rows of people of neither class.
    seed : int
        Of everything random in this split.
    """

    people: People
    labels: Values
    test: Rows
    validation: Rows
    pool: dict[int, Rows]
    neither: Rows
    seed: int

    def train(self, n: int) -> Rows:
        """The first n people of each class; those of a smaller n are among them."""
        fewest = min(len(rows) for rows in self.pool.values())
        if n > fewest:
            raise InputError(f"n = {n}: only {fewest} people of a class are left in this split")
        return np.concatenate([self.pool[0][:n], self.pool[1][:n]])

    @property
    def everyone(self) -> Rows:
        """All who may shape an anatomy: nobody tested, nobody who chooses epochs."""
        return np.sort(np.concatenate([*self.pool.values(), self.neither]))


def draw(people: People, task: Task, split: int, n_test: int, n_validation: int) -> Draw:
    """Draw a split: a function of (data set, task, number of the split) alone.

    Parameters
    ----------
    people : People
        Everyone of a data set.
    task : Task
        What is told apart.
    split : int
        Its number, from 0.
    n_test, n_validation : int
        People of each class.
    """
    labels = task.labels(people)
    test, validation, pool = [], [], {}
    for label in (0, 1):
        rows = np.flatnonzero(labels == label)
        rng = KEYED.numpy("proof", people.name, task.name, split, label)
        shuffled = rng.permutation(rows).astype(np.intp)
        test.append(shuffled[:n_test])
        validation.append(shuffled[n_test : n_test + n_validation])
        pool[label] = shuffled[n_test + n_validation :]
    seed = KEYED.seed("proof", people.name, task.name, split) % 2**31
    neither = np.flatnonzero(np.isnan(labels)).astype(np.intp)
    return Draw(
        people, labels, np.concatenate(test), np.concatenate(validation), pool, neither, seed
    )
