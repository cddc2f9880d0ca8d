"""Monitoring of a run: the best epochs so far, and divergence.

The fidelity losses never exceed one. A diverging run therefore does not have an exploding loss, but weights
that grow until a value overflows. A rising loss does not stop the run: the warm restarts of the public
schedule raise the loss temporarily.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import nn

from liqe_core.files import first_few
from liqe_core.training.profiles import Profile
from liqe_core.training.step import BadBatchError

#: The validation measures that select each checkpoint: one measure, or the mean of all three.
CRITERIA = {
    "quality": ("srcc",),
    "scene": ("scene_accuracy",),
    "distortion": ("distortion_accuracy",),
    "average": ("srcc", "scene_accuracy", "distortion_accuracy"),
}

#: Steps between two checks of the weights.
WINDOW = 50
#: Maximum ratio of the norm of the weights to their initial norm.
WEIGHT_GROWTH = 10.0


class TrainingError(RuntimeError):
    """Raised if training should not continue. The message says why and what to change."""


class Watch:
    """Checks a run for skipped batches and divergence.

    Args:
        settings: the settings of the run.
        model: the model before the first step.

    Attributes:
        skipped: one row per skipped batch: ``epoch, step, reason, images``.
    """

    def __init__(self, settings: Profile, model: nn.Module):
        self.settings = settings
        self.skipped: list[dict] = []
        self._trained = [p for p in model.parameters() if p.requires_grad]
        self._norm = self._norm_of_weights()

    def skip(self, epoch: int, step: int, bad: BadBatchError) -> None:
        """Record a skipped batch.

        Raises:
            TrainingError: if more than `max_skipped` batches were skipped, or the weights diverge.
        """
        row = {"epoch": epoch, "step": step, "reason": bad.reason, "images": ";".join(bad.images)}
        self.skipped.append(row)
        moment = f"epoch {epoch}, step {step}"
        self._check_weights(moment)
        if len(self.skipped) > self.settings.steps.max_skipped:
            names = list(dict.fromkeys(name for row in self.skipped for name in row["images"].split(";")))
            problem = f"{len(self.skipped)} batches had NaN or infinity (the last in its {bad.reason})"
            limit = f"more than max_skipped = {self.settings.steps.max_skipped}"
            raise TrainingError(f"{moment}: {problem}, {limit}; check the images {first_few(names, 8)}")

    def check(self, steps: int) -> None:
        """Check every `WINDOW` steps that the weights are finite and not too large.

        Args:
            steps: number of steps taken.

        Raises:
            TrainingError: if the weights diverge.
        """
        if steps % WINDOW == 0:
            self._check_weights(f"after {steps} steps")

    def _check_weights(self, moment: str) -> None:
        growth = self._norm_of_weights() / self._norm
        if not growth <= WEIGHT_GROWTH:  # also true for NaN
            problem = f"training diverges: the norm of the weights is {growth:.3g} times the initial norm"
            advice = f"give a learning_rate below {self.settings.steps.learning_rate:g}"
            raise TrainingError(f"{moment}: {problem}; {advice}")

    def _norm_of_weights(self) -> float:
        with torch.no_grad():
            return float(torch.nn.utils.get_total_norm(self._trained))


def improved(best: dict[str, float], row: Mapping, keep: str = "best") -> list[str]:
    """Return the criteria by which an epoch is strictly better than all previous epochs.

    Args:
        best: the best value so far by criterion; updated in place.
        row: the validation measures. NaN (a correlation with constant predictions) is excluded from a mean.
            If all measures are NaN, the epoch is the worst possible, but still kept if it is the first.
        keep: ``best``; or ``last``, which treats each validated epoch as better.

    Returns:
        Keys of `CRITERIA`, without those whose measures are missing in the row.
    """
    better = []
    for criterion, names in CRITERIA.items():
        values = [row[name] for name in names if name in row]
        if not values:  # no validation in this epoch, or an axis that the grid does not have
            continue
        defined = [value for value in values if not math.isnan(value)]
        value = sum(defined) / len(defined) if defined else -math.inf
        if keep == "last" or criterion not in best or value > best[criterion]:
            best[criterion] = value
            better.append(criterion)
    return better
