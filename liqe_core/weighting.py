"""Weights of the task losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

#: Dynamic weight averaging, or equal weights of 1, which is its limit for infinite temperature.
WEIGHTINGS = ("dwa", "equal")


class DynamicWeightAverage:
    """Dynamic weight averaging: tasks whose loss decreases slowly get a larger weight.

    In the first two epochs, all weights are 1. Afterwards, with the epoch means L_k of the loss of task k,

        w_k = L_k(t-1) / L_k(t-2),    lambda_k(t) = K exp(w_k / T) / sum_i exp(w_i / T).

    Call ``weights()`` at the start of an epoch, ``record(losses)`` after each step and ``end_epoch()`` at the
    end.

    Args:
        tasks: names of the tasks, in a fixed order.
        temperature: T > 0; a larger value makes the weights more equal.
    """

    def __init__(self, tasks: Sequence[str], temperature: float = 2.0):
        if not tasks:
            raise ValueError("tasks is empty: give at least one task")
        if not temperature > 0:
            raise ValueError(f"temperature is {temperature}: give a positive number")
        self.tasks = tuple(tasks)
        self.temperature = temperature
        self.epoch_means: list[list[float]] = []
        self._sums, self._steps = np.zeros(len(self.tasks)), 0

    def weights(self) -> dict[str, float]:
        """Return the weight of each task in the current epoch."""
        if len(self.epoch_means) < 2:
            return dict.fromkeys(self.tasks, 1.0)
        before, last = np.array(self.epoch_means[-2:])
        # A loss of zero gives the ratio 1, so that it does not make the other weights NaN.
        pace = np.divide(last, before, out=np.ones_like(last), where=before > 0)
        pressed = np.exp(pace / self.temperature)
        return dict(zip(self.tasks, (len(pressed) * pressed / pressed.sum()).tolist(), strict=True))

    def record(self, losses: Mapping[str, float]) -> None:
        """Add the losses of a step to the mean of the current epoch."""
        self._sums += [float(losses[task]) for task in self.tasks]
        self._steps += 1

    def end_epoch(self) -> None:
        """End the epoch. An epoch without steps repeats the means of the previous one."""
        if self._steps:
            self.epoch_means.append((self._sums / self._steps).tolist())
        elif self.epoch_means:
            self.epoch_means.append(self.epoch_means[-1])
        self._sums, self._steps = np.zeros(len(self.tasks)), 0

    def last_means(self) -> dict[str, float]:
        """Return the mean losses of the last complete epoch; NaN if no epoch had a step."""
        means = self.epoch_means[-1] if self.epoch_means else [float("nan")] * len(self.tasks)
        return dict(zip(self.tasks, means, strict=True))

    def state_dict(self) -> dict[str, Any]:
        """Return the state for `load_state_dict`, even in the middle of an epoch."""
        return {"epoch_means": self.epoch_means, "sums": self._sums.tolist(), "steps": self._steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.epoch_means = [list(means) for means in state["epoch_means"]]
        self._sums, self._steps = np.array(state["sums"], dtype=float), int(state["steps"])
