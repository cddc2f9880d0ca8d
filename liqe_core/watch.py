"""Batches that cannot be learnt from, and runs that have gone wrong: counted, named, stopped."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from liqe_core.profiles import Profile

#: Steps over which the loss is averaged for comparison, and how much worse than at the start is too much.
WINDOW, WORSE = 50, 1.5


class TrainingError(RuntimeError):
    """Training cannot usefully go on; the message says why and what to change."""


class BadBatch(ValueError):
    """A step that was not taken, since its loss or gradient was NaN or infinite.

    Attributes:
        losses: by task, unweighted.
        reason: what was not finite.
        images: the pictures to look at: those whose own prediction or score was not finite, else all.
        weights_lost: whether the weights themselves are no longer finite.
    """

    def __init__(self, losses: dict[str, float], reason: str, images: Sequence[str], weights_lost: bool):
        super().__init__(f"{reason} is not finite")
        self.losses, self.reason, self.images = losses, reason, tuple(images)
        self.weights_lost = weights_lost


class Watch:
    """Keeps an eye on a run.

    Args:
        settings: `max_skipped` and the learning rate, for the message.

    Attributes:
        skipped: a row a batch that was left out: ``epoch, step, reason, images``.
    """

    def __init__(self, settings: Profile):
        self.settings = settings
        self.skipped: list[dict] = []

    def skip(self, epoch: int, step: int, bad: BadBatch) -> None:
        """Note a batch that was left out.

        Raises:
            TrainingError: there have been more than `max_skipped`, or the weights are lost.
        """
        self.skipped.append(
            {"epoch": epoch, "step": step, "reason": bad.reason, "images": ";".join(bad.images)}
        )
        where = f"epoch {epoch}, step {step}"
        if bad.weights_lost:
            raise TrainingError(
                f"{where}: the weights are no longer finite; the learning rate, "
                f"{self.settings.learning_rate:g}, is too high: give a lower one"
            )
        if len(self.skipped) > self.settings.max_skipped:
            names = list(dict.fromkeys(name for row in self.skipped for name in row["images"].split(";")))
            more = f" and {len(names) - 8} more" if len(names) > 8 else ""
            raise TrainingError(
                f"{where}: {len(self.skipped)} batches had NaN or infinity (the last: {bad.reason}), more "
                f"than max_skipped = {self.settings.max_skipped}. Pictures to look at: "
                f"{', '.join(names[:8])}{more}. "
                f"If they are sound, lower the learning rate ({self.settings.learning_rate:g})"
            )

    def check(self, steps: Sequence[Mapping]) -> None:
        """Compare the latest losses with the first ones.

        Args:
            steps: the rows of all steps so far.

        Raises:
            TrainingError: the mean of the last `WINDOW` steps is over `WORSE` times that of the first.
        """
        if len(steps) < 2 * WINDOW or len(steps) % WINDOW:
            return
        first, last = _mean_loss(steps[:WINDOW]), _mean_loss(steps[-WINDOW:])
        if last > WORSE * first:
            raise TrainingError(
                f"after {len(steps)} steps the loss is {last:.3f}, and was {first:.3f} at the start: "
                f"training diverges; the learning rate, {self.settings.learning_rate:g}, is too high: "
                "give a lower one"
            )


def total_loss(row: Mapping) -> float:
    """The sum of the task losses in a row of ``steps.csv``, unweighted."""
    return sum(value for name, value in row.items() if name.endswith("_loss"))


def _mean_loss(rows: Sequence[Mapping]) -> float:
    totals = [total_loss(row) for row in rows]
    finite = [total for total in totals if math.isfinite(total)]
    return sum(finite) / len(finite) if finite else math.nan
