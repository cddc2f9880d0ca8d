"""Model selection: which epochs' weights are kept, by what they reach in validation."""

from __future__ import annotations

import math
from collections.abc import Mapping

#: What each kept checkpoint was best at in validation: one measure, or the mean of all three.
CRITERIA = {
    "quality": ("srcc",),
    "scene": ("scene_accuracy",),
    "distortion": ("distortion_accuracy",),
    "average": ("srcc", "scene_accuracy", "distortion_accuracy"),
}


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
