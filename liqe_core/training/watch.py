"""What a run watches: which epoch is the best so far, and whether training can usefully go on.

The fidelity losses never exceed one, so a run that diverges does not show it by a loss that explodes, but by
weights that grow without bound until something overflows. A loss that rises stops nothing: the public
schedule's warm restarts raise it, and it comes down again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import nn

from liqe_core.files import first_few
from liqe_core.training.profiles import Profile
from liqe_core.training.step import BadBatchError

#: What each kept checkpoint was best at in validation: one measure, or the mean of all three.
CRITERIA = {
    "quality": ("srcc",),
    "scene": ("scene_accuracy",),
    "distortion": ("distortion_accuracy",),
    "average": ("srcc", "scene_accuracy", "distortion_accuracy"),
}

#: Steps between looks at the weights.
WINDOW = 50
#: How many times their initial norm is too much.
WEIGHT_GROWTH = 10.0


class TrainingError(RuntimeError):
    """Training cannot usefully go on; the message says why and what to change."""


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

    def skip(self, epoch: int, step: int, bad: BadBatchError) -> None:
        """Note a batch that was left out.

        Raises:
            TrainingError: there have been more than `max_skipped`, or the weights are to blame.
        """
        row = {"epoch": epoch, "step": step, "reason": bad.reason, "images": ";".join(bad.images)}
        self.skipped.append(row)
        moment = f"epoch {epoch}, step {step}"
        self._check_weights(moment)
        if len(self.skipped) > self.settings.steps.max_skipped:
            names = list(dict.fromkeys(name for row in self.skipped for name in row["images"].split(";")))
            problem = f"{len(self.skipped)} batches had NaN or infinity (the last in its {bad.reason})"
            limit = f"more than max_skipped = {self.settings.steps.max_skipped}"
            raise TrainingError(f"{moment}: {problem}, {limit}; look at {first_few(names, 8)}")

    def check(self, steps: int) -> None:
        """Every `WINDOW` steps: are the weights finite and of a sensible size?

        Args:
            steps: how many there have been.

        Raises:
            TrainingError: they are not.
        """
        if steps % WINDOW == 0:
            self._check_weights(f"after {steps} steps")

    def _check_weights(self, moment: str) -> None:
        growth = self._norm_of_weights() / self._norm
        if not growth <= WEIGHT_GROWTH:  # NaN is not, either
            problem = f"training diverges, the weights have grown {growth:.3g} times since the start"
            advice = f"give a learning_rate below {self.settings.steps.learning_rate:g}"
            raise TrainingError(f"{moment}: {problem}; {advice}")

    def _norm_of_weights(self) -> float:
        with torch.no_grad():
            return float(torch.nn.utils.get_total_norm(self._trained))


def improved(best: dict[str, float], row: Mapping, keep: str = "best") -> list[str]:
    """The criteria by which an epoch is better than all before it; an equal one is not.

    Args:
        best: the best value so far, by criterion; brought up to date.
        keep: ``best``; or ``last``, by which the latest epoch that was validated passes for better.
        row: what validation found. A measure that is NaN (a correlation with constant predictions) is left
            out of a mean; where all are, the epoch is the worst possible, but is kept if it is the first.

    Returns:
        Names from `CRITERIA`, but for those whose measures the row lacks.
    """
    better = []
    for criterion, names in CRITERIA.items():
        values = [row[name] for name in names if name in row]
        if not values:  # no validation in this epoch, or an axis that the grid lacks
            continue
        defined = [value for value in values if not math.isnan(value)]
        value = sum(defined) / len(defined) if defined else -math.inf
        if keep == "last" or criterion not in best or value > best[criterion]:
            best[criterion] = value
            better.append(criterion)
    return better
