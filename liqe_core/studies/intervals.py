"""Confidence intervals by SciPy's bootstrap over images or runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy import stats

#: A percentile interval lies between the smallest and the largest unit. These two enclose the median of the
#: units' distribution in all but 2 / 2^n of cases, so with fewer than six units no interval reaches 95 %.
FEWEST = 6


def bootstrap(count: int, statistic: Callable[[np.ndarray], float]) -> tuple[float, float]:
    """Compute the 95 % percentile interval (999 resamples) of a statistic.

    The interval is too narrow if there are few units: in 2,000 trials with normally distributed units it
    contained the mean in 86 % with six units, in 89 % with ten and in 92 % with twenty.

    Args:
        count: the number of units.
        statistic: a function of the row numbers of resampled units, (count,).

    Returns:
        Both ends; NaN if there are fewer units than `FEWEST`.
    """
    if count < FEWEST:
        return float("nan"), float("nan")
    interval = stats.bootstrap(
        (np.arange(count),),
        statistic,
        vectorized=False,
        batch=100,
        n_resamples=999,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(interval.low), float(interval.high)


def mean_interval(values: np.ndarray) -> tuple[float, float]:
    """Compute the interval of the mean of independent values, (n,); see `bootstrap`."""
    values = np.asarray(values, dtype=float)
    return bootstrap(len(values), lambda rows: values[rows].mean())


def difference(gains: np.ndarray, low: float, high: float) -> dict:
    """Summarize the differences between two groups of runs as fields of a table row.

    Args:
        gains: (n,) the difference in each pair of runs.
        low, high: the interval of the mean difference.

    Returns:
        `difference` (the mean), `low`, `high`, `better` (the number of positive differences), and `verdict`:
        ``better``, ``worse``, or ``not measurable``, also if there is no interval.
    """
    verdict = "better" if low > 0 else "worse" if high < 0 else "not measurable"
    better = int((np.asarray(gains) > 0).sum())
    return {"difference": np.mean(gains), "low": low, "high": high, "better": better, "verdict": verdict}


def srcc_interval(
    quality: np.ndarray, mos: np.ndarray, groups: Sequence[np.ndarray] | None = None
) -> tuple[float, float]:
    """Compute the interval of a rank correlation over images, or over groups of images; see `bootstrap`."""
    return gain_interval([quality], [np.zeros_like(quality)], mos, groups)


def gain_interval(
    runs: Sequence[np.ndarray],
    references: Sequence[np.ndarray],
    mos: np.ndarray,
    groups: Sequence[np.ndarray] | None = None,
) -> tuple[float, float]:
    """Compute the interval of the mean SRCC gain of runs over their references, over images and runs.

    Each resample draws both images and pairs of runs, so that the interval includes the variation over seeds.

    Args:
        runs, references: the predicted qualities (n,) of each run, in pairs; constant ones have SRCC 0.
        mos: (n,) human scores.
        groups: the row numbers of images that are drawn together, such as those made from one photograph;
            None: each image is drawn on its own.
    """

    def ranks(values: np.ndarray) -> np.ndarray:
        """Return ranks with mean 0 and length 1; zeros if all values are equal."""
        ranked = stats.rankdata(values)
        ranked -= ranked.mean()
        length = np.linalg.norm(ranked)
        return ranked / length if length > 0 else np.zeros_like(ranked)

    def gain(resample: np.ndarray) -> float:
        rows = resample if groups is None else np.concatenate([groups[unit] for unit in resample])
        human = ranks(mos[rows])
        drawn = np.random.default_rng(resample[:4]).integers(len(runs), size=len(runs))
        gains = [((ranks(runs[run][rows]) - ranks(references[run][rows])) * human).sum() for run in drawn]
        return float(np.mean(gains))

    return bootstrap(len(mos if groups is None else groups), gain)
