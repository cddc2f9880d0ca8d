"""Batches that cannot be learnt from, and runs that have gone wrong: counted, named, stopped.

The fidelity losses never exceed one, so a run that diverges does not show it by a loss that explodes: the
loss climbs back to that of guessing, or the weights grow without bound until something overflows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from liqe_core.training.profiles import Profile

#: Steps between looks at the run, over which the loss is averaged.
WINDOW = 50
#: How many times the best window's loss, and the initial norm of the weights, are too much.
LOSS_RISE, WEIGHT_GROWTH = 1.5, 10.0


class TrainingError(RuntimeError):
    """Training cannot usefully go on; the message says why and what to change."""


class BadBatch(ValueError):
    """A step that was not taken, since its loss or gradient was NaN or infinite.

    Attributes:
        losses: by task, unweighted.
        reason: what was not finite, ``loss`` or ``gradient``.
        images: the pictures to look at: those whose own prediction or score was not finite, else all.
    """

    def __init__(self, losses: dict[str, float], reason: str, images: Sequence[str]):
        super().__init__(f"the {reason} is not finite; pictures: {', '.join(images)}")
        self.losses, self.reason, self.images = losses, reason, tuple(images)


class Watch:
    """Keeps an eye on a run.

    Args:
        settings: `max_skipped`, and the learning rate for the message.
        model: before its first step.

    Attributes:
        skipped: a row a batch that was left out: ``epoch, step, reason, images``.
    """

    def __init__(self, settings: Profile, model: nn.Module):
        self.settings = settings
        self.skipped: list[dict] = []
        self._trained = [p for p in model.parameters() if p.requires_grad]
        self._norm = self._norm_of_weights()

    def skip(self, epoch: int, step: int, bad: BadBatch) -> None:
        """Note a batch that was left out.

        Raises:
            TrainingError: there have been more than `max_skipped`, or the weights are to blame.
        """
        row = {"epoch": epoch, "step": step, "reason": bad.reason, "images": ";".join(bad.images)}
        self.skipped.append(row)
        where = f"epoch {epoch}, step {step}"
        self._check_weights(where)
        if len(self.skipped) > self.settings.max_skipped:
            names = list(dict.fromkeys(name for row in self.skipped for name in row["images"].split(";")))
            more = f" and {len(names) - 8} more" if len(names) > 8 else ""
            raise TrainingError(
                f"{where}: {len(self.skipped)} batches had NaN or infinity (the last in its {bad.reason}), "
                f"more than max_skipped = {self.settings.max_skipped}; look at {', '.join(names[:8])}{more}"
            )

    def check(self, steps: Sequence[Mapping]) -> None:
        """Every `WINDOW` steps: are the weights of a sensible size, is the loss near the best so far?

        Args:
            steps: the rows of all steps so far.

        Raises:
            TrainingError: one of them is not.
        """
        if len(steps) % WINDOW:
            return
        where = f"after {len(steps)} steps"
        self._check_weights(where)
        means = [_mean_loss(steps[start : start + WINDOW]) for start in range(0, len(steps), WINDOW)]
        best = min((mean for mean in means if not math.isnan(mean)), default=math.nan)
        if means[-1] > LOSS_RISE * best:
            raise TrainingError(
                f"{where}: training diverges, the loss was down to {best:.3f} and is {means[-1]:.3f} "
                f"(means over {WINDOW} steps); {self._advice()}"
            )

    def _check_weights(self, where: str) -> None:
        growth = self._norm_of_weights() / self._norm
        if not growth <= WEIGHT_GROWTH:  # NaN is not, either
            raise TrainingError(
                f"{where}: training diverges, the weights have grown to {growth:.3g} times what they were at "
                f"the start; {self._advice()}"
            )

    def _advice(self) -> str:
        return f"the learning rate, {self.settings.learning_rate:g}, is too high: give a lower one"

    def _norm_of_weights(self) -> float:
        with torch.no_grad():
            return float(torch.nn.utils.get_total_norm(self._trained))


def total_loss(row: Mapping) -> float:
    """The sum of the task losses in a row of ``steps.csv``, unweighted."""
    return sum(value for name, value in row.items() if name.endswith("_loss"))


def _mean_loss(rows: Sequence[Mapping]) -> float:
    finite = [loss for loss in map(total_loss, rows) if math.isfinite(loss)]
    return sum(finite) / len(finite) if finite else math.nan
