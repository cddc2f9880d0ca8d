"""Measures of the agreement between predictions and human scores and labels.

Undefined correlations (fewer than two images, or a constant input) are NaN; `reason` returns the cause.
"""

from __future__ import annotations

import math
import statistics
import warnings
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from scipy import optimize, stats
from scipy.special import expit

Array = np.ndarray | Sequence[float]


def srcc(prediction: Array, mos: Array) -> float:
    """Spearman's rank correlation (SRCC); ties get their mean rank."""
    return _correlation(lambda x, y: stats.spearmanr(x, y).statistic, prediction, mos)


def krcc(prediction: Array, mos: Array) -> float:
    """Kendall's rank correlation (KRCC), tau-b."""
    return _correlation(lambda x, y: stats.kendalltau(x, y).statistic, prediction, mos)


def plcc(prediction: Array, mos: Array) -> float:
    """Pearson's correlation (PLCC) of the scores and the predictions, after a logistic fit to the scores."""
    return _after_fit(prediction, mos)["plcc"]


def rmse(prediction: Array, mos: Array) -> float:
    """Root mean square error (RMSE) in units of the scores, after the same logistic fit."""
    return _after_fit(prediction, mos)["rmse"]


def reason(prediction: Array, mos: Array) -> str:
    """Return why a correlation is undefined; empty if it is defined."""
    x, y = _pair(prediction, mos)
    if len(x) < 2:
        return f"{len(x)} images"
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        return "NaN or infinity among the " + ("predictions" if not np.isfinite(x).all() else "scores")
    if np.ptp(x) == 0:
        return "constant predictions"
    if np.ptp(y) == 0:
        return "constant scores"
    return ""


def logistic4(x: Array, top: float, bottom: float, middle: float, width: float) -> np.ndarray:
    """Four-parameter logistic of the Video Quality Experts Group, as in the public benchmark script:
    ``bottom + (top - bottom) / (1 + exp(-(x - middle) / |width|))``."""
    # expit is 1 / (1 + exp(-x)) without overflow. The lower bound avoids a division by a fitted width of 0.
    return bottom + (top - bottom) * expit((np.asarray(x, float) - middle) / max(abs(width), 1e-12))


def fit_logistic(prediction: Array, mos: Array) -> np.ndarray:
    """Least-squares fit of `logistic4` from predictions to scores, with the public script's initial values.

    If there are fewer images than parameters or the fit does not converge, the initial values are returned.
    They also define a monotone curve.

    Returns:
        (4,) array of top, bottom, middle and width.
    """
    x, y = _pair(prediction, mos)
    start = np.array([y.max(), y.min(), x.mean(), max(x.std(), 1e-12)])
    if len(x) < len(start):
        return start

    # MINPACK in SciPy 1.15 to 1.17 reads one number past the last column of the Jacobian (scipy#24323), and
    # this number differs between runs. A dummy parameter with a residual of its own therefore adds a last
    # column, whose first number, the one that is read, is 0. Its weight is too small for pivoting to move the
    # column to the front. The dummy stays 0 and does not affect the other parameters.
    def padded(x: np.ndarray, *parameters: float) -> np.ndarray:
        return np.append(logistic4(x, *parameters[:4]), 1e-250 * parameters[4])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optimize.OptimizeWarning)  # about the covariance, which is unused
        warnings.simplefilter("ignore", RuntimeWarning)
        try:
            found, _ = optimize.curve_fit(padded, x, np.append(y, 0), p0=np.append(start, 0), maxfev=24_000)
        except RuntimeError:
            return start
    return found[:4] if np.isfinite(found).all() else start


def scene_accuracy(p_scene: Array, multi_hot: Array) -> float:
    """Scene accuracy as in the public training script.

    For an image with k scene labels, each label among the k most probable scenes is a hit. The accuracy is
    the number of hits divided by the number of labels, over all images with labels.

    Args:
        p_scene: (N, S) probabilities.
        multi_hot: (N, S) of 0 and 1.
    """
    p, target = _tables(p_scene, multi_hot)
    labels = target.sum(axis=1)
    ranks = np.argsort(np.argsort(-p, axis=1, kind="stable"), axis=1)
    hits = (target & (ranks < labels[:, None])).sum()
    return float(hits / labels.sum()) if labels.sum() else float("nan")


def scene_accuracy_benchmark(p_scene: Array, multi_hot: Array) -> float:
    """Scene accuracy as in the public `BIQA_benchmark.py`, to compare with the numbers of that script.

    It excludes wrong images with a single label from the denominator, which inflates the accuracy.
    """
    p, target = _tables(p_scene, multi_hot)
    single = target.sum(axis=1) == 1
    right = target[np.arange(len(p)), p.argmax(axis=1)]
    keep = ~single | right
    return scene_accuracy(p[keep], target[keep])


def distortion_accuracy(p_distortion: Array, one_hot: Array) -> float:
    """Fraction of labelled images whose most probable distortion is the labelled one.

    Args:
        p_distortion: (N, D) probabilities.
        one_hot: (N, D), one 1 in the row of each labelled image.
    """
    p, target = _tables(p_distortion, one_hot)
    labelled = target.any(axis=1)
    right = target[np.arange(len(p)), p.argmax(axis=1)][labelled]
    return float(right.mean()) if len(right) else float("nan")


def agreement(prediction: Array, mos: Array) -> dict[str, float]:
    """Compute SRCC, KRCC, PLCC and RMSE."""
    return {"srcc": srcc(prediction, mos), "krcc": krcc(prediction, mos)} | _after_fit(prediction, mos)


def over_sessions(results: pd.DataFrame) -> pd.DataFrame:
    """Aggregate each measure over the sessions or seeds of each dataset.

    Args:
        results: one row per session and dataset. Numeric columns other than ``session`` and ``seed`` are
            measures.

    Returns:
        One row per dataset, with columns (measure, ``mean``, ``median``, ``std`` or ``count``). NaN values
        are excluded.
    """
    measures = [c for c in results.select_dtypes("number").columns if c not in ("session", "seed")]
    return results.groupby("dataset", sort=False)[measures].agg(["mean", "median", "std", "count"])


def _after_fit(prediction: Array, mos: Array) -> dict[str, float]:
    """Compute PLCC and RMSE after one fit, with identical digits for any number of threads."""
    x, y = _pair(prediction, mos)
    if reason(x, y):
        return {"plcc": float("nan"), "rmse": float("nan")}
    curve = logistic4(x, *fit_logistic(x, y))
    # `statistics` sums with `fsum`, which does not depend on the order. SciPy's pearsonr uses BLAS, where the
    # last digit depends on the number of threads.
    plcc = float("nan") if reason(curve, y) else statistics.correlation(curve.tolist(), y.tolist())
    return {"plcc": float(np.clip(plcc, -1, 1)), "rmse": math.sqrt(statistics.fmean((curve - y) ** 2))}


def _correlation(measure: Callable[[np.ndarray, np.ndarray], float], prediction: Array, mos: Array) -> float:
    x, y = _pair(prediction, mos)
    return float("nan") if reason(x, y) else float(measure(x, y))


def _pair(prediction: Array, mos: Array) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(prediction, dtype=float), np.asarray(mos, dtype=float)
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(f"expected two vectors of equal length, got shapes {x.shape} and {y.shape}")
    return x, y


def _tables(p: Array, target: Array) -> tuple[np.ndarray, np.ndarray]:
    p, target = np.asarray(p, dtype=float), np.asarray(target) > 0
    if p.ndim != 2 or p.shape != target.shape:
        raise ValueError(f"expected two matrices of equal shape, got {p.shape} and {target.shape}")
    return p, target
