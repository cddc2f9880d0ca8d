"""Batches that cannot be learnt from, and runs that have gone wrong: counted, named, stopped.

The fidelity losses never exceed one, so a run that diverges does not show it by a loss that explodes, but by
weights that grow without bound until something overflows. A loss that rises stops nothing: the public
schedule's warm restarts raise it, and it comes down again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from liqe_core.training.profiles import Profile

#: Steps between looks at the weights.
WINDOW = 50
#: How many times their initial norm is too much.
WEIGHT_GROWTH = 10.0


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

    def check(self, steps: int) -> None:
        """Every `WINDOW` steps: are the weights finite and of a sensible size?

        Args:
            steps: how many there have been.

        Raises:
            TrainingError: they are not.
        """
        if steps % WINDOW == 0:
            self._check_weights(f"after {steps} steps")

    def _check_weights(self, where: str) -> None:
        growth = self._norm_of_weights() / self._norm
        if not growth <= WEIGHT_GROWTH:  # NaN is not, either
            raise TrainingError(
                f"{where}: training diverges, the weights have grown to {growth:.3g} times what they were at "
                f"the start; the learning rate, {self.settings.learning_rate:g}, is too high: "
                "give a lower one"
            )

    def _norm_of_weights(self) -> float:
        with torch.no_grad():
            return float(torch.nn.utils.get_total_norm(self._trained))


def total_loss(row: Mapping) -> float:
    """The sum of the task losses in a row of ``steps.csv``, unweighted."""
    return sum(value for name, value in row.items() if name.endswith("_loss"))
