"""How the task losses are weighted against one another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

#: Dynamic, or every weight 1 in every epoch, as an infinite temperature makes it.
WEIGHTINGS = ("dwa", "equal")


class DynamicWeightAverage:
    """Dynamic weight averaging: a task whose loss falls slowly gets more weight.

    In the first two epochs every weight is 1; then, with the epoch means L of each task's loss,

        w_k = L_k(t-1) / L_k(t-2),    lambda_k(t) = K exp(w_k / T) / sum_i exp(w_i / T).

    Usage: ``weights()`` at the start of an epoch, ``record(losses)`` after each step, ``end_epoch()``.

    Args:
        tasks: their names, in a fixed order.
        temperature: T; the larger, the more equal the weights.
    """

    def __init__(self, tasks: Sequence[str], temperature: float = 2.0):
        if not tasks:
            raise ValueError("no tasks to weight")
        if not temperature > 0:
            raise ValueError(f"temperature is {temperature}: give a positive number")
        self.tasks = tuple(tasks)
        self.temperature = temperature
        self.epoch_means: list[list[float]] = []
        self._sums, self._steps = np.zeros(len(self.tasks)), 0

    def weights(self) -> dict[str, float]:
        """The weight of each task in the epoch under way."""
        if len(self.epoch_means) < 2:
            return dict.fromkeys(self.tasks, 1.0)
        before, last = np.array(self.epoch_means[-2:])
        # A task whose loss has reached zero is not in a hurry, and must not make the others NaN.
        pace = np.divide(last, before, out=np.ones_like(last), where=before > 0)
        pressed = np.exp(pace / self.temperature)
        return dict(zip(self.tasks, (len(pressed) * pressed / pressed.sum()).tolist(), strict=True))

    def record(self, losses: Mapping[str, float]) -> None:
        """Add one step's losses, as floats, to the mean of the epoch under way."""
        self._sums += [float(losses[task]) for task in self.tasks]
        self._steps += 1

    def end_epoch(self) -> None:
        """Close the epoch; one without a step counts like the one before it."""
        if self._steps:
            self.epoch_means.append((self._sums / self._steps).tolist())
        elif self.epoch_means:
            self.epoch_means.append(self.epoch_means[-1])
        self._sums, self._steps = np.zeros(len(self.tasks)), 0

    def last_means(self) -> dict[str, float]:
        """The mean losses of the last closed epoch; NaN where no epoch had a step."""
        means = self.epoch_means[-1] if self.epoch_means else [float("nan")] * len(self.tasks)
        return dict(zip(self.tasks, means, strict=True))

    def state_dict(self) -> dict[str, Any]:
        """Everything that `load_state_dict` needs to go on in the middle of an epoch."""
        return {"epoch_means": self.epoch_means, "sums": self._sums.tolist(), "steps": self._steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.epoch_means = [list(means) for means in state["epoch_means"]]
        self._sums, self._steps = np.array(state["sums"], dtype=float), int(state["steps"])
