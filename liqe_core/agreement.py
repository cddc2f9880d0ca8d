"""How well predictions agree with people, a session at a time and over sessions.

Correlations that are not defined (fewer than two images, a constant) are NaN; `reason` says which it was.
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
    """Spearman's rank correlation; ties get their mean rank."""
    return _correlation(lambda x, y: stats.spearmanr(x, y).statistic, prediction, mos)


def krcc(prediction: Array, mos: Array) -> float:
    """Kendall's tau-b."""
    return _correlation(lambda x, y: stats.kendalltau(x, y).statistic, prediction, mos)


def plcc(prediction: Array, mos: Array) -> float:
    """Pearson's correlation of the human scores with the predictions mapped by a fitted logistic."""
    return _after_fit(prediction, mos)["plcc"]


def rmse(prediction: Array, mos: Array) -> float:
    """Root mean square error, in units of the human scores, after the same mapping."""
    return _after_fit(prediction, mos)["rmse"]


def reason(prediction: Array, mos: Array) -> str:
    """Why a correlation is not defined; empty where it is."""
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
    """The monotone map of the video quality experts group, as in the public benchmark script:
    ``bottom + (top - bottom) / (1 + exp(-(x - middle) / |width|))``."""
    # expit is 1 / (1 + exp(-x)) without overflow; the floor keeps a width that a fit drove to zero a step.
    return bottom + (top - bottom) * expit((np.asarray(x, float) - middle) / max(abs(width), 1e-12))


def fit_logistic(prediction: Array, mos: Array) -> np.ndarray:
    """Least-squares fit of `logistic4` from predictions to scores, started as in the public script.

    Where there are fewer images than parameters, or the fit does not converge, the start is returned: it is
    a monotone curve too.

    Returns:
        (4,) top, bottom, middle, width.
    """
    x, y = _pair(prediction, mos)
    start = np.array([y.max(), y.min(), x.mean(), max(x.std(), 1e-12)])
    if len(x) < len(start):
        return start

    # The MINPACK of SciPy 1.15 to 1.17 reads one number behind the last column of the Jacobian (scipy#24323),
    # and what lies there differs from run to run. So the last column is one of a parameter that is not in the
    # curve, with a residual of its own: its first number, the one that is read, is 0. The weight is too small
    # for the column to be moved to the front; the parameter stays 0, and the others go as without it.
    def padded(x: np.ndarray, *parameters: float) -> np.ndarray:
        return np.append(logistic4(x, *parameters[:4]), 1e-250 * parameters[4])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optimize.OptimizeWarning)  # of a covariance that we do not use
        warnings.simplefilter("ignore", RuntimeWarning)
        try:
            found, _ = optimize.curve_fit(padded, x, np.append(y, 0), p0=np.append(start, 0), maxfev=24_000)
        except RuntimeError:
            return start
    return found[:4] if np.isfinite(found).all() else start


def scene_accuracy(p_scene: Array, multi_hot: Array) -> float:
    """As the training script counts: of an image with k scene labels the k likeliest scenes are looked at,
    and each label found among them is a hit; hits over labels, over all images that have any.

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
    """As the public `BIQA_benchmark.py` counts: an image with one label is left out of the denominator
    when it was wrong, which inflates the figure. For comparison with numbers made by that script."""
    p, target = _tables(p_scene, multi_hot)
    single = target.sum(axis=1) == 1
    right = target[np.arange(len(p)), p.argmax(axis=1)]
    keep = ~single | right
    return scene_accuracy(p[keep], target[keep])


def distortion_accuracy(p_distortion: Array, one_hot: Array) -> float:
    """How often the likeliest distortion is the labelled one, over the images that have a label.

    Args:
        p_distortion: (N, D) probabilities.
        one_hot: (N, D), one 1 in the row of a labelled image.
    """
    p, target = _tables(p_distortion, one_hot)
    labelled = target.any(axis=1)
    right = target[np.arange(len(p)), p.argmax(axis=1)][labelled]
    return float(right.mean()) if len(right) else float("nan")


def agreement(prediction: Array, mos: Array) -> dict[str, float]:
    """SRCC, KRCC, PLCC and RMSE in one go."""
    return {"srcc": srcc(prediction, mos), "krcc": krcc(prediction, mos)} | _after_fit(prediction, mos)


def over_sessions(results: pd.DataFrame) -> pd.DataFrame:
    """Mean, median and standard deviation of every measure over the sessions (or seeds).

    Args:
        results: a row a session and dataset; numeric columns besides ``session`` and ``seed`` are measures.

    Returns:
        A row a dataset; columns (measure, ``mean``, ``median``, ``std`` or ``count``).
        NaN is left out of all four.
    """
    measures = [c for c in results.select_dtypes("number").columns if c not in ("session", "seed")]
    return results.groupby("dataset", sort=False)[measures].agg(["mean", "median", "std", "count"])


def _after_fit(prediction: Array, mos: Array) -> dict[str, float]:
    """PLCC and RMSE after one fit, the same to the last digit on any number of threads."""
    x, y = _pair(prediction, mos)
    if reason(x, y):
        return {"plcc": float("nan"), "rmse": float("nan")}
    curve = logistic4(x, *fit_logistic(x, y))
    # `statistics` adds with `fsum`, in which order does not count; SciPy's pearsonr adds with BLAS, whose
    # last digit depends on the number of threads.
    plcc = float("nan") if reason(curve, y) else statistics.correlation(curve.tolist(), y.tolist())
    return {"plcc": float(np.clip(plcc, -1, 1)), "rmse": math.sqrt(statistics.fmean((curve - y) ** 2))}


def _correlation(measure: Callable[[np.ndarray, np.ndarray], float], prediction: Array, mos: Array) -> float:
    x, y = _pair(prediction, mos)
    return float("nan") if reason(x, y) else float(measure(x, y))


def _pair(prediction: Array, mos: Array) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(prediction, dtype=float), np.asarray(mos, dtype=float)
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(f"expected two vectors of one length, got shapes {x.shape} and {y.shape}")
    return x, y


def _tables(p: Array, target: Array) -> tuple[np.ndarray, np.ndarray]:
    p, target = np.asarray(p, dtype=float), np.asarray(target) > 0
    if p.ndim != 2 or p.shape != target.shape:
        raise ValueError(f"expected two matrices of one shape, got {p.shape} and {target.shape}")
    return p, target
