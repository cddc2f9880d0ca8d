"""Realignment: map the MOS of all datasets to the scale of a jointly trained model.

Datasets use different rating procedures, so a mean opinion score (MOS) at 0.6 of the range has a different
meaning in LIVE and in KonIQ-10k. A model that is trained on all datasets, with losses that compare images
only within a dataset, ranks the images of all datasets on one scale. A curve of a dataset's MOS against the
model's predictions connects the two scales; the inverse curve maps each MOS to the common scale.

A curve is fitted on one half of a dataset's images and judged on the other half. A MOS outside of the curve's
range is *held* at its end. The curve is not valid for such an image, so it is excluded from averages and from
`same_score_pairs`, and the number of held images is reported.

`plant` distributes known qualities over artificial datasets with known scales. They test `realign` against a
known answer, and replace real datasets if only one is available.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from itertools import chain, combinations
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from liqe_core.agreement import fit_logistic, logistic4, srcc
from liqe_core.data.manifests import load_manifest
from liqe_core.studies.intervals import difference, gain_interval
from liqe_core.training.prepare import AS_SHOWN

#: The ends of the model's scale: 1 (bad) to 5 (perfect).
SCALE = (1.0, 5.0)

_GRID = 2001  # points of the inverted curve; linear interpolation is exact to about 1e-6 of the scale
_FEWEST = 8  # least number of images to fit a curve of four parameters, and to judge it


class Realignment(NamedTuple):
    """Result of `realign`: `scores` has a row for each image, `curves` a row for each dataset."""

    scores: pd.DataFrame
    curves: pd.DataFrame


def realign(
    table: pd.DataFrame,
    *,
    prediction: str = "prediction",
    ranges: Mapping[str, tuple[float, float]] | None = None,
    seed: int = 0,
) -> Realignment:
    """Map the MOS of each dataset to the model's scale with a monotone curve.

    For each dataset, the 4-parameter logistic f of MOS against prediction is fitted by least squares to one
    half of the images. A MOS m moves to f^-1(m), clipped to the range of the predictions of that half. The
    result is compared with the usual naive scale: the dataset's range mapped linearly to 1..5.

    Args:
        table: a row for each image. Higher MOS are better (reverse a DMOS first). Rows with a missing or
            infinite score are dropped.
        prediction: the column of the predictions; the other columns are `dataset` and `mos`.
        ranges: the lowest and highest possible score by dataset, e.g. {"kadid10k": (1, 5)}; default: the
            smallest and largest MOS of the dataset.
        seed: the seed of the halves. They are drawn by image, so versions of a photograph may be in both.

    Returns:
        `scores`: `dataset`, `mos`, `prediction`, and floats, NaN if missing: `raw` (MOS as a part of the
        dataset's range, 0..1), `naive` (raw mapped to 1..5), `aligned` (on the model's scale); `fitted` (the
        image is in the half that the curve was fitted on) and `held` (its MOS is outside of the curve's
        range). Index and order are those of the table.
        `curves`: indexed by `dataset`, in order of appearance: `count` images, `dropped` rows, `held` images,
        `judged` (images of the other half that are not held; the averages use these), `beta1` .. `beta4` (see
        `logistic4`), `shift` (mean of aligned - naive), `stretch` (least-squares slope of aligned on naive:
        below 1, the dataset covers less of the common scale than its range suggests), `residual_before` and
        `residual_after` (root mean square of prediction - naive and of prediction - aligned, on the common
        scale), and `reason`: "" if the dataset was aligned, otherwise why not (its numbers are then missing).

    Raises:
        KeyError: a column is missing. ValueError: a range is empty, or the table has no rows.
    """
    if table.empty:
        raise ValueError("no images to realign: the table is empty")
    scores = table[["dataset", "mos", prediction]].set_axis(["dataset", "mos", "prediction"], axis=1)
    scores = scores.reset_index(drop=True).astype({"mos": float, "prediction": float})
    scores = scores.assign(raw=np.nan, naive=np.nan, aligned=np.nan, fitted=False, held=False)
    finite = np.isfinite(scores[["mos", "prediction"]]).all(axis=1)
    rng, curves = np.random.default_rng(seed), []
    for name, part in scores.groupby("dataset", sort=False):
        rows = part.index[finite[part.index]]
        human, predicted = (part.loc[rows, column].to_numpy() for column in ("mos", "prediction"))
        half = rng.permutation(len(rows)) % 2 == 0
        moved, curve = _realign_set(human, predicted, half, _range(str(name), human, ranges))
        for column, values in moved.items():
            scores.loc[rows, column] = values
        curves.append({"dataset": name, "count": len(rows), "dropped": len(part) - len(rows)} | curve)
    scores.index = table.index
    return Realignment(scores, pd.DataFrame(curves).set_index("dataset").reindex(columns=_CURVE_COLUMNS))


def _realign_set(
    human: np.ndarray, predicted: np.ndarray, half: np.ndarray, ends: tuple[float, float]
) -> tuple[dict[str, np.ndarray], dict]:
    """Compute columns of `Realignment.scores` and fields of `Realignment.curves` for one dataset.

    Args:
        half: mask of the images that the curve is fitted on. ends: the ends of the dataset's own scale.
    """
    moved: dict[str, np.ndarray] = {}
    if ends[1] > ends[0]:
        moved["raw"] = (human - ends[0]) / (ends[1] - ends[0])
        moved["naive"] = naive = SCALE[0] + moved["raw"] * (SCALE[1] - SCALE[0])
    if reason := _unfit(human[half], predicted[half]):
        return moved, {"reason": reason}
    beta = fit_logistic(predicted[half], human[half])
    start, stop = predicted[half].min(), predicted[half].max()
    low, high = logistic4(np.array([start, stop]), *beta)
    if not high > low:
        return moved, {"reason": "the fitted curve does not rise"}
    held = (human < low) | (human > high)
    judging = ~half & ~held
    curve: dict[str, object] = {"held": int(held.sum()), "judged": int(judging.sum())}
    if judging.sum() < _FEWEST or np.ptp(naive[judging]) == 0:
        beyond = f"{held.sum()} of {len(human)} scores lie beyond the curve"
        return moved, curve | {"reason": f"{beyond}: too few are left to judge it"}
    grid = np.linspace(start, stop, _GRID)  # f rises on the grid, so interpolation can invert it
    moved |= {"aligned": np.interp(human, logistic4(grid, *beta), grid), "fitted": half, "held": held}
    aligned, naive, predicted = moved["aligned"][judging], naive[judging], predicted[judging]
    curve |= {f"beta{k}": value for k, value in enumerate(beta, 1)}
    curve["shift"] = (aligned - naive).mean()
    curve["stretch"] = np.cov(naive, aligned, bias=True)[0, 1] / naive.var()
    curve["residual_before"] = np.sqrt(((predicted - naive) ** 2).mean())
    curve["residual_after"] = np.sqrt(((predicted - aligned) ** 2).mean())
    return moved, curve | {"reason": ""}


_CURVE_COLUMNS = ["count", "dropped", "held", "judged", "beta1", "beta2", "beta3", "beta4"]
_CURVE_COLUMNS += ["shift", "stretch", "residual_before", "residual_after", "reason"]


def judged(scores: pd.DataFrame) -> pd.DataFrame:
    """Select the rows of `Realignment.scores` that can judge a curve: neither fitted nor held."""
    return scores[scores["aligned"].notna() & ~scores["fitted"] & ~scores["held"]]


def describe(curves: pd.DataFrame) -> str:
    """Describe which images the averages exclude.

    Args:
        curves: `Realignment.curves`.
    """
    held, count, judged_on = (int(curves[column].sum()) for column in ("held", "count", "judged"))
    without = curves.index[curves["reason"] != ""]
    more = f"; no curve: {', '.join(map(str, without))}" if len(without) else ""
    share = f"{held} of {count} images ({held / max(1, count):.0%})"
    beyond = f"{share} have a score outside of the range of their dataset's curve and are excluded{more}"
    return f"{beyond}. Curves are fitted on one half; the numbers use {judged_on} images of the other half."


def thrown_together(realigned: Mapping[str, Realignment], truth: pd.Series, reference: str) -> pd.DataFrame:
    """Rank the images of all datasets together, and correlate the ranks with their known quality.

    The naive scale is compared with the realignments of several models.

    Args:
        realigned: realignments of the same table by model.
        truth: the quality of each image.
        reference: the model that the others are compared with.

    Returns:
        A row for the naive scale (``not realigned``), then one for each model: `realignment`, `images` (those
        that `judged` keeps for every model), `srcc`, and the fields of `intervals.difference` for the
        difference to the reference, over images. NaN if there are too few images.
    """
    kept = [judged(realignment.scores).index for realignment in realigned.values()]
    rows = functools.reduce(pd.Index.intersection, kept)
    ways = {"not realigned": realigned[reference].scores["naive"]}
    ways |= {name: realignment.scores["aligned"] for name, realignment in realigned.items()}
    values = {name: scores.loc[rows].to_numpy(float) for name, scores in ways.items()}
    known, against, table = truth.loc[rows].to_numpy(float), values[reference], []
    for name, scores in values.items():
        gain = srcc(scores, known) - srcc(against, known)
        row = {"realignment": name, "images": len(rows), "srcc": srcc(scores, known)}
        table.append(row | difference(np.array([gain]), *gain_interval([scores], [against], known)))
    return pd.DataFrame(table).drop(columns="better")


def curve_points(realignment: Realignment) -> pd.DataFrame:
    """Sample the fitted curves over their range: `dataset`, `prediction`, `mos`, `raw`."""
    drawn = []
    for name, curve in realignment.curves[realignment.curves["reason"] == ""].iterrows():
        rows = realignment.scores[(realignment.scores["dataset"] == name) & realignment.scores["fitted"]]
        x = np.linspace(rows["prediction"].min(), rows["prediction"].max(), 100)
        y = logistic4(x, *curve[["beta1", "beta2", "beta3", "beta4"]].to_numpy(dtype=float))
        raw = np.polyval(np.polyfit(rows["mos"], rows["raw"], 1), y)  # raw is linear in MOS
        drawn.append(pd.DataFrame({"dataset": name, "prediction": x, "mos": y, "raw": raw}))
    columns = ["dataset", "prediction", "mos", "raw"]
    return pd.concat(drawn, ignore_index=True) if drawn else pd.DataFrame(columns=columns)


def same_score_pairs(scores: pd.DataFrame, tolerance: float = 0.01) -> pd.DataFrame:
    """Find, for each two datasets, the images with the same raw score and the largest realigned difference.

    The search is exact: all pairs of images that `judged` keeps are compared.

    Args:
        scores: `Realignment.scores`.
        tolerance: two images share a score if their `raw` (0..1) differ by at most this.

    Returns:
        A row for each two datasets that share a score, the largest gap first (ties in order of appearance):
        `better`, `worse` (index labels), `better_dataset`, `worse_dataset`, `better_raw`, `worse_raw`,
        `better_aligned`, `worse_aligned`, `gap` (on the common scale, > 0).
    """
    sets = [
        group.sort_values("raw", kind="stable") for _, group in judged(scores).groupby("dataset", sort=False)
    ]
    found = []
    for first, second in combinations(sets, 2):
        raw, aligned = (
            np.subtract.outer(first[name].to_numpy(), second[name].to_numpy()) for name in ("raw", "aligned")
        )
        gaps = np.where(np.abs(raw) <= tolerance, aligned, 0)
        i, j = np.unravel_index(np.abs(gaps).argmax(), gaps.shape)
        if gaps[i, j]:
            pair = [first.iloc[[i]], second.iloc[[j]]]
            images = pd.concat(pair if gaps[i, j] > 0 else pair[::-1])
            columns = (images.index, images["dataset"], images["raw"], images["aligned"])
            found.append([*chain.from_iterable(columns), abs(gaps[i, j])])
    sides = [f"{side}{part}" for part in ("", "_dataset", "_raw", "_aligned") for side in ("better", "worse")]
    table = pd.DataFrame(found, columns=[*sides, "gap"])
    return table.sort_values("gap", ascending=False, kind="stable", ignore_index=True)


def _unfit(human: np.ndarray, predicted: np.ndarray) -> str:
    """Return why no rising curve can be fitted to these scores; "" if one can."""
    if len(human) < _FEWEST:
        return f"{len(human)} images: a curve needs {_FEWEST}"
    if np.ptp(human) == 0:
        return "all human scores are equal"
    if np.ptp(predicted) == 0:
        return "all predictions are equal"
    if spearmanr(human, predicted).statistic <= 0:
        return "human scores do not rise with the predictions"
    return ""


def _range(dataset: str, human: np.ndarray, ranges: Mapping[str, tuple[float, float]] | None):
    if not ranges or dataset not in ranges:
        return (human.min(), human.max()) if len(human) else (0.0, 0.0)
    low, high = ranges[dataset]
    if not high > low:
        raise ValueError(f"the range of {dataset!r} is {low}..{high}: give the lowest, then the highest")
    return low, high


def realign_kept(kept: pd.DataFrame, names: Sequence[str] = ("biq2021", "hevc as shown")) -> Realignment:
    """Realign real datasets from saved predictions.

    Args:
        kept: ``dataset``, ``mos``, ``quality`` (the prediction), such as the open benchmark's
            ``liqe-tiny.csv``. names: the datasets to realign.
    """
    table = kept[kept["dataset"].isin(names)].rename(columns={"quality": "prediction"})
    scored = {name: load_manifest(name.removesuffix(AS_SHOWN)).score for name in table["dataset"].unique()}
    return realign(table, ranges={name: (score.low, score.high) for name, score in scored.items() if score})


class Warp(NamedTuple):
    """The scale of an artificial dataset.

    Attributes:
        scale: a rising function from quality, 1..5, to the dataset's score.
        range: the lowest and highest possible score.
        covers: the interval of quality that the dataset's images come from.
        words: a description for tables.
    """

    scale: Callable[[np.ndarray], np.ndarray]
    range: tuple[float, float]
    covers: tuple[float, float]
    words: str


WARPS = {
    "plain": Warp(lambda q: 100 * ((q - 1) / 4), (0, 100), (1, 5), "0..100, linear"),
    "lenient": Warp(lambda q: 10 * ((q - 1) / 4) ** 0.5, (0, 10), (1, 5), "0..10, people give high scores"),
    "strict": Warp(lambda q: 1 + 8 * ((q - 1) / 4) ** 2, (1, 9), (1, 5), "1..9, people give low scores"),
    "web": Warp(lambda q: np.clip((q - 2) / 2, 0, 1), (0, 1), (2, 4), "0..1, only images of medium quality"),
}


def plant(quality: pd.Series, noise: float = 0.15, seed: int = 1) -> pd.DataFrame:
    """Distribute images evenly over artificial datasets, and compute the score on each dataset's scale.

    Args:
        quality: the quality of each image, 1..5.
        noise: standard deviation of the human scores, in points of quality, before the scale is applied.
        seed: the seed of the distribution and of the noise.

    Returns:
        A row for each image, in the given order: `dataset`, `quality`, `mos`, `jitter` (independent noise of
        the same size, for simulated predictions). An image outside of the interval that its dataset covers
        goes to the first dataset, which covers all.
    """
    rng = np.random.default_rng(seed)
    values = quality.to_numpy(float)
    names = np.array(list(WARPS))[rng.permutation(len(values)) % len(WARPS)]
    seen = np.clip(values + rng.normal(0, noise, len(values)), 1, 5)
    mos = np.empty(len(values))
    for name, warp in WARPS.items():
        outside = (names == name) & ((values < warp.covers[0]) | (values > warp.covers[1]))
        names[outside] = next(iter(WARPS))
    for name, warp in WARPS.items():
        mos[names == name] = warp.scale(seen[names == name])
    table = pd.DataFrame({"dataset": names, "quality": values, "mos": mos}, index=quality.index)
    return table.assign(jitter=rng.normal(0, noise, len(values)))


def check_planted(noise: float = 0.15, seed: int = 1, count: int = 2000) -> tuple[Realignment, pd.DataFrame]:
    """Check realignment on artificial datasets with known quality.

    Args:
        noise, seed: see `plant`. count: the number of images in all datasets together.

    Returns:
        The realignment, and a row for each scale: its description, the error before and after, in points of
        1..5, and the number of held images.
    """
    known = plant(pd.Series(range(count)) / count * 4 + 1, noise=noise, seed=seed)
    known["prediction"] = known["quality"] + known.pop("jitter")
    check = realign(known, ranges={name: warp.range for name, warp in WARPS.items()})
    half = judged(check.scores)
    error = half[["naive", "aligned"]].sub(known.loc[half.index, "quality"], axis=0) ** 2
    error = error.groupby(half["dataset"]).mean()
    table = pd.DataFrame({"artificial scale": {name: warp.words for name, warp in WARPS.items()}})
    table[["error before", "error after"]] = error**0.5
    return check, table.assign(held=check.curves["held"])
