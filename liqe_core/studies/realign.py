"""Realignment: the annotations of all datasets on the one scale of a jointly trained model.

Every dataset asks people in its own way, so a mean opinion score (MOS) of 0.6 of the range means one thing
in LIVE and another in KonIQ-10k. A model trained on all sets at once, with losses that compare images only
within a set, orders the images of all of them on a single scale. The curve of a set's MOS against that
model's predictions therefore says what the set's scores mean on the common scale: read backwards, it maps
each human score there.

A curve is fitted on one half of a set's images and judged on the other. Where a human score lies beyond the
curve's reach it is *held* at the end: the curve says nothing of that image, so it counts in no average and
stands in no pair of `same_score_pairs`, and how many there are is said.

`plant` deals one set of qualities out to made-up datasets, each with a scale of its own that is known: they
stand in for several datasets where there is only one, and check `realign` where the answer is known.
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

#: Where the scale of a model begins and ends: 1 (bad) to 5 (perfect).
SCALE = (1.0, 5.0)

_GRID = 2001  # points on which a curve is inverted; linear between them, exact to about 1e-6 of the scale
_FEWEST = 8  # images that a curve of four parameters is fitted to, and that it is judged on


class Realignment(NamedTuple):
    """`scores`: a row an image. `curves`: a row a dataset. Columns as `realign` says."""

    scores: pd.DataFrame
    curves: pd.DataFrame


def realign(
    table: pd.DataFrame,
    *,
    prediction: str = "prediction",
    ranges: Mapping[str, tuple[float, float]] | None = None,
    seed: int = 0,
) -> Realignment:
    """Maps every dataset's human scores onto the model's scale, by a monotone curve a set.

    For each set the 4-parameter logistic f of MOS against prediction is fitted by least squares to one half
    of the images; a human score m moves to f^-1(m), no further than the predictions of that half reach. The
    scale before, to compare with, is the usual naive one: the set's range stretched linearly over 1..5.

    Args:
        table: a row an image. Human scores are *higher is better* (reverse a DMOS first). Rows with a
            missing or infinite score take no part.
        prediction: its column; the others are called `dataset` and `mos`.
        ranges: the lowest and highest possible score of a set, e.g. {"kadid10k": (1, 5)}; a set without one
            takes its smallest and largest human score.
        seed: of the halves. They are drawn image by image, so versions of one photograph may be in both.

    Returns:
        `scores`: `dataset`, `mos`, `prediction`, and floats, NaN where there is none: `raw` (MOS as a part of
        the set's range, 0..1), `naive` (raw over 1..5), `aligned` (on the model's scale); `fitted` (it is
        of the half that the curve was fitted on) and `held` (it lies beyond the curve's reach). Index and
        order are the table's.
        `curves`: indexed by `dataset`, in order of appearance: `count` images, `dropped` rows, `held` images,
        `judged` (of the other half, those not held, which the averages are over), `beta1` .. `beta4` (see
        `logistic4`), `shift` (mean of aligned - naive: how far the set as a whole moves), `stretch`
        (least-squares slope of aligned on naive: below 1, the set covers less of the common scale than its
        range pretends), `residual_before` and `residual_after` (root mean square of prediction less naive,
        and less aligned, on the common scale), and `reason`: "" where the set was aligned, else why not (and
        the numbers are missing).

    Raises:
        KeyError: a column is not in the table. ValueError: an empty range, or no rows.
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
    """Columns of `Realignment.scores` and fields of `Realignment.curves` of one set.

    Args:
        half: which images the curve is fitted on. ends: of the set's own scale.
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
        return moved, curve | {"reason": f"{beyond}: too few are left to judge it by"}
    grid = np.linspace(start, stop, _GRID)  # f rises on it, so that interpolation inverts it
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
    """The rows of `Realignment.scores` that a curve can be judged by: it has one, was not fitted on them, and
    reaches them."""
    return scores[scores["aligned"].notna() & ~scores["fitted"] & ~scores["held"]]


def describe(curves: pd.DataFrame) -> str:
    """What the averages leave out, in a sentence for the reader.

    Args:
        curves: `Realignment.curves`.
    """
    held, count, judged_on = (int(curves[column].sum()) for column in ("held", "count", "judged"))
    without = curves.index[curves["reason"] != ""]
    more = f"; no curve: {', '.join(map(str, without))}" if len(without) else ""
    share = f"{held} of {count} images ({held / max(1, count):.0%})"
    beyond = f"{share} have a score beyond the reach of their set's curve and are left out{more}"
    return f"{beyond}. Curves are fitted on one half; the numbers are of {judged_on} images of the other."


def thrown_together(realigned: Mapping[str, Realignment], truth: pd.Series, reference: str) -> pd.DataFrame:
    """How well all sets' scores, in one heap, rank the images by a quality that is known: as they are, and
    realigned by several models.

    Args:
        realigned: by model, all of one table.
        truth: the quality of each of its images.
        reference: the model that the others are compared with.

    Returns:
        A row a way (the first, ``not realigned``, is the naive scale): `realignment`, `images` (those that
        `judged` keeps for every model: all ways are judged on the same), `srcc`, and what
        `intervals.difference` says of the way less the reference, over images. NaN where there are too few.
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
    """The fitted curves to draw: `dataset`, `prediction` (as far as those fitted on reach), `mos`, `raw`."""
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
    """Of any two datasets, the two images that share a raw score and differ most on the common scale.

    Exact: of the images that `judged` keeps, every one of a set is compared with every one of the other.

    Args:
        scores: `Realignment.scores`.
        tolerance: two images share a score when their `raw` (0..1) differ by at most this.

    Returns:
        A row for each two sets that share a score, the largest gap first (sets in order of appearance where
        gaps are equal): `better`, `worse` (index labels), `better_dataset`, `worse_dataset`, `better_raw`,
        `worse_raw`, `better_aligned`, `worse_aligned`, `gap` (on the common scale, > 0).
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
    """Why no rising curve can be fitted to these scores; "" when one can."""
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
    """Real scales of human scores on one: what a model said of datasets that people scored.

    Args:
        kept: ``dataset``, ``mos``, ``quality`` (the prediction), such as the open benchmark's
            ``liqe-tiny.csv``. names: which of its datasets.
    """
    table = kept[kept["dataset"].isin(names)].rename(columns={"quality": "prediction"})
    scored = {name: load_manifest(name.removesuffix(AS_SHOWN)).score for name in table["dataset"].unique()}
    return realign(table, ranges={name: (score.low, score.high) for name, score in scored.items() if score})


class Warp(NamedTuple):
    """A made-up scale of a planted dataset.

    Attributes:
        scale: from quality, 1..5, to the set's score; rising.
        range: the lowest and highest score that the set's people could give.
        covers: the part of the quality scale that the set's images come from.
        words: what it does, for a table.
    """

    scale: Callable[[np.ndarray], np.ndarray]
    range: tuple[float, float]
    covers: tuple[float, float]
    words: str


WARPS = {
    "plain": Warp(lambda q: 100 * ((q - 1) / 4), (0, 100), (1, 5), "0..100, straight"),
    "lenient": Warp(lambda q: 10 * ((q - 1) / 4) ** 0.5, (0, 10), (1, 5), "0..10, people give high scores"),
    "strict": Warp(lambda q: 1 + 8 * ((q - 1) / 4) ** 2, (1, 9), (1, 5), "1..9, people give low scores"),
    "web": Warp(lambda q: np.clip((q - 2) / 2, 0, 1), (0, 1), (2, 4), "0..1, middling images only"),
}


def plant(quality: pd.Series, noise: float = 0.15, seed: int = 1) -> pd.DataFrame:
    """Deal images out to the planted sets, evenly, and give each the score of its set's scale.

    Args:
        quality: of each image, 1..5.
        noise: standard deviation of what people disagree on, in points of quality, before the scale.
        seed: of the dealing and the noise.

    Returns:
        A row an image that got into a set, in the order given: `dataset`, `quality`, `mos`, `jitter` (other
        noise of the same size, for a stand-in prediction). An image outside of what its set covers goes to
        the first, which covers all.
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
    """Realignment where the answer is known: qualities seen through the planted scales.

    Args:
        noise, seed: see `plant`. count: of images, of all planted sets together.

    Returns:
        The realignment, and a row a scale: what was planted, the error before and after, in points of 1..5,
        and how many images were held.
    """
    known = plant(pd.Series(range(count)) / count * 4 + 1, noise=noise, seed=seed)
    known["prediction"] = known["quality"] + known.pop("jitter")
    check = realign(known, ranges={name: warp.range for name, warp in WARPS.items()})
    half = judged(check.scores)
    error = half[["naive", "aligned"]].sub(known.loc[half.index, "quality"], axis=0) ** 2
    error = error.groupby(half["dataset"]).mean()
    table = pd.DataFrame({"what we planted": {name: warp.words for name, warp in WARPS.items()}})
    table[["error before", "error after"]] = error**0.5
    return check, table.assign(held=check.curves["held"])
