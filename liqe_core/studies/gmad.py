"""The group maximum differentiation competition (gMAD): models compared by their strongest disagreements.

One model *defends*: at one of its quality levels it rates a group of images as equally good. Another
*attacks*: among these images it picks the pair with the largest difference in its own scores. People compare
this pair. If they see a difference, the attacker has falsified the defender; if they see none, the attack has
failed. A few pairs out of millions of images are thus enough to compare two models.

A disagreement alone is not a verdict: it shows that one of the two models is wrong, but not which one.
`attack_resistance` needs human preferences (`preference`); `disagreement` works without them.

Ma, Wu, Wang, Duanmu, Yong, Li, Zhang: "Group MAD competition: a new methodology to compare objective image
quality models", CVPR 2016; extended in Ma et al., "Group maximum differentiation competition: model
comparison with few samples", IEEE TPAMI 42(4), 2020. LIQE's authors report one.

In every score column, higher is better: negate scores such as NIQE and BRISQUE first.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from itertools import permutations
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.optimize import minimize
from scipy.stats import binomtest, norm

from liqe_core.data.tables import column, numbers, read_table, unique

_LEVEL_NAMES = {1: ("all",), 2: ("low", "high"), 3: ("low", "middle", "high")}


def quality_levels(defender: np.ndarray, levels: int = 2, width: float | None = None) -> pd.DataFrame:
    """Compute the defender's quality levels: intervals of its scale whose images count as equally good.

    Level k of K is a window around (k - 1/2) / K of the scale, as in the gMAD paper (which has K = 6 windows
    of width 18 on a scale of 100).

    Args:
        defender: (N,) finite scores of the defender, N >= 1.
        levels: the number of levels, K >= 1. Two are the "low" and "high" of LIQE's figures.
        width: the width of a window, as a part of the range of the scores, in (0, 1]. None is the smaller of
            0.1 and 1 / K, so that the images of a level are similar. Windows wider than 1 / K overlap; with
            1 / K they tile the scale.

    Returns:
        K rows from low to high: `level` (1..K), `name`, `low` and `high`. Both ends belong to the level, so
        an image on the border of two adjacent levels is in both.
    """
    if levels < 1:
        raise ValueError(f"levels={levels}: a competition needs at least 1 level (2 for low and high)")
    width = min(0.1, 1 / levels) if width is None else width
    if not 0 < width <= 1:
        raise ValueError(f"width={width}: give a part of the scale, above 0 and at most 1")
    centre = (np.arange(levels) + 0.5) / levels
    edges = np.clip(np.stack([centre - width / 2, centre + width / 2]), 0, 1)
    smallest, largest = defender.min(), defender.max()
    low, high = smallest + edges * (largest - smallest)
    names = _LEVEL_NAMES.get(levels, tuple(f"{k}/{levels}" for k in range(1, levels + 1)))
    return pd.DataFrame({"level": np.arange(1, levels + 1), "name": names, "low": low, "high": high})


def gmad_pairs(
    scores: pd.DataFrame, attacker: str, defender: str, levels: int = 2, width: float | None = None
) -> pd.DataFrame:
    """Find, in each of the defender's levels, the pair of images with the largest gap by the attacker.

    The pair is exact: the attacker's best and worst image of the level. Ties are resolved by the order of
    `scores`, so the same table always gives the same pairs.

    Args:
        scores: a row for each image, named by the index; a column for each scorer, higher is better. Rows
            with a missing or infinite score are dropped; the column `dropped` counts them.
        attacker, defender: columns of `scores`.
        levels, width: see `quality_levels`.

    Returns:
        A row for each level: `defender`, `attacker`, `level`, `name`, `low`, `high` (the level on the
        defender's scale), `count` (its number of images), `share` (its part of the competing images),
        `better` and `worse` (index labels, as the attacker ranks them), `attacker_better`, `attacker_worse`,
        `defender_better`, `defender_worse` (their scores), `gap` (attacker_better - attacker_worse, > 0),
        `gap_percent` (of the attacker's range over all competing images, 0..100), `dropped`, and `reason`: ""
        if there is a pair, otherwise why there is none (images, scores and gaps are then missing).

    Raises:
        KeyError: a column is missing. ValueError: no row has both scores, two rows have the same name, or the
        levels are invalid.
    """
    if not scores.index.is_unique:
        twice = scores.index[scores.index.duplicated()][0]
        raise ValueError(f"two rows are called {twice!r}: the index must name each image once")
    both = scores[[attacker, defender]].astype(float)
    finite = np.isfinite(both).all(axis=1)
    if not finite.any():
        raise ValueError(f"no image has a score from both {attacker!r} and {defender!r}: nothing can compete")
    index = scores.index[finite]
    attack, defend = both[finite].to_numpy().T
    rows = []
    for level in quality_levels(defend, levels, width).itertuples(index=False):
        group = np.flatnonzero((defend >= level.low) & (defend <= level.high))
        row = {"defender": defender, "attacker": attacker, **level._asdict()}
        row |= {"count": len(group), "share": len(group) / len(index), "dropped": int((~finite).sum())}
        row["reason"] = _no_pair(attack[group], attacker)
        if not row["reason"]:
            # argmax and argmin return the first of equal values.
            better, worse = group[attack[group].argmax()], group[attack[group].argmin()]
            gap = attack[better] - attack[worse]
            row |= {"better": index[better], "worse": index[worse]}
            row |= {"attacker_better": attack[better], "attacker_worse": attack[worse]}
            row |= {"defender_better": defend[better], "defender_worse": defend[worse]}
            row |= {"gap": gap, "gap_percent": 100 * gap / np.ptp(attack)}
        rows.append(row)
    pairs = pd.DataFrame(rows).reindex(columns=_COLUMNS)
    for side in ("better", "worse"):  # dtype object keeps integer labels next to missing ones: 2, not 2.0
        pairs[side] = pd.Series([row.get(side) for row in rows], dtype=object)
    return pairs


_COLUMNS = ["defender", "attacker", "level", "name", "low", "high", "count", "share", "better", "worse"]
_COLUMNS += ["attacker_better", "attacker_worse", "defender_better", "defender_worse"]
_COLUMNS += ["gap", "gap_percent", "dropped", "reason"]


def compete(
    scores: pd.DataFrame, scorers: Sequence[str] | None = None, levels: int = 2, width: float | None = None
) -> pd.DataFrame:
    """Let every scorer attack every other: the rows of `gmad_pairs` for all ordered pairs of `scorers`.

    Args:
        scores: as in `gmad_pairs`. Only images with a score from every scorer compete, so that all pairs are
            comparable; `dropped` counts the others.
        scorers: at least two columns; None means all numeric columns.
        levels, width: as in `quality_levels`.
    """
    scorers = list(scores.select_dtypes("number").columns if scorers is None else scorers)
    if len(scorers) < 2:
        raise ValueError(f"a competition needs at least two scorers, got {scorers}: add a column of scores")
    finite = np.isfinite(scores[scorers].astype(float)).all(axis=1)
    common = scores.loc[finite, scorers]
    rounds = [gmad_pairs(common, a, d, levels, width) for d, a in permutations(scorers, 2)]
    return pd.concat(rounds, ignore_index=True).assign(dropped=int((~finite).sum()))


def disagreement(pairs: pd.DataFrame) -> pd.DataFrame:
    """Compute the mean gap of the row's scores on images that the column rates as equally good.

    Args:
        pairs: the rows of `compete`.

    Returns:
        (M, M) 0..100: percent of the row's range, averaged over the column's levels with weights by their
        images. NaN on the diagonal, and if no level has a pair. It does not say which scorer is right.
    """
    fought = pairs[pairs["reason"] == ""]
    return _over_levels(fought, fought["gap_percent"], "attacker", "defender", _scorers(pairs))


class Competition(NamedTuple):
    """Outcome of a competition with human preferences: row against column, and one number for each scorer."""

    attack: pd.DataFrame  # (M, M) -100..100: row attacks column
    resistance: pd.DataFrame  # (M, M) 0..100: row resists column
    ranking: pd.DataFrame  # a row for each scorer, best first: `attack`, `resistance`, both zero-mean


def attack_resistance(pairs: pd.DataFrame, preference: Mapping[int, float]) -> Competition:
    """Compute aggressiveness and resistance of every scorer, pairwise and global, as in the gMAD paper.

    s is the mean preference for a pair, from -100 to 100, positive if people prefer the same image as the
    attacker; p_k is the share of level k among the defender's images in all levels. Then ::

        attack[i, j]     = sum_k p_k s_k            over the pairs in which i attacks j,
        resistance[i, j] = sum_k p_k (100 - |s_k|)  over the pairs in which j attacks i.

    Negative aggressiveness (people contradict the attacker) counts as 0 in the global ranking.

    The global numbers are those of Thurstone's case V that make the matrices most likely (Tsukida and Gupta
    2011, as in the paper): maximise sum_ij M_ij log Phi(m_i - m_j) with sum_i m_i = 0. A weak Gaussian prior
    keeps them finite when a scorer never loses.

    Args:
        pairs: the rows of `compete`. Rows without a pair have weight 0; the other levels are renormalized.
        preference: s for each pair, by its index label in `pairs`. Every row with a pair needs one.

    Returns:
        A `Competition`. Diagonals, and pairings in which no level has a pair, are NaN.
    """
    fought = pairs[pairs["reason"] == ""]
    judged = fought.index.to_series().map(dict(preference)).astype(float)
    if judged.isna().any():
        missing = ", ".join(map(str, judged.index[judged.isna()]))
        raise ValueError(f"no preference for pair {missing}: every row with an empty reason needs one")
    if (judged.abs() > 100).any():
        raise ValueError("a preference lies outside -100..100: rescale the preferences")
    scorers = _scorers(pairs)
    attack = _over_levels(fought, judged, "attacker", "defender", scorers)
    resistance = _over_levels(fought, 100 - judged.abs(), "defender", "attacker", scorers)
    strengths = {"attack": _thurstone(attack), "resistance": _thurstone(resistance)}
    ranking = pd.DataFrame(strengths, index=scorers)
    order = ranking.sum(axis=1).sort_values(ascending=False, kind="stable").index
    return Competition(attack, resistance, ranking.loc[order].rename_axis("scorer"))


def preference(pairs: pd.DataFrame, mos: pd.Series) -> dict[int, float]:
    """Derive the preference for each pair from MOS, for `attack_resistance`.

    Args:
        pairs: the rows of `compete`.
        mos: human scores, higher is better, by image name.

    Returns:
        By the index label of each row with a pair: the MOS of the attacker's better image minus that of the
        other, in percent of the range of all scores; negative if people contradict the attacker.

    Raises:
        KeyError: an image of a pair has no score.
    """
    fought = pairs[pairs["reason"] == ""]
    gaps = mos.loc[fought["better"]].to_numpy(float) - mos.loc[fought["worse"]].to_numpy(float)
    return dict(zip(fought.index, (100 * gaps / np.ptp(mos.to_numpy(float))).tolist(), strict=True))


def human_scores(path: str | os.PathLike) -> pd.Series:
    """Read human scores for `preference` from a table with the columns `image` and `mos` (higher is better).

    Raises:
        LabelError: the table is unreadable, a column is missing, an image is repeated, or a score is not a
            number.
    """
    table = read_table(path)
    images = unique(column(table, "image", path), path)
    return pd.Series(numbers(column(table, "mos", path), path).to_numpy(), index=images.to_numpy())


#: The possible verdicts on a pair.
RIGHT = ("attacker", "defender", "neither")


def who_was_right(pairs: pd.DataFrame, preference: Mapping[int, float], least: float = 5.0) -> pd.DataFrame:
    """Decide for each pair whether the attacker or the defender is right.

    Args:
        pairs: the rows of `compete`.
        preference: as in `attack_resistance`.
        least: the smallest preference, in percent, that counts as a difference. A MOS is a mean over some
            people and has an error of about this size; 5 is our choice.

    Returns:
        The rows with a pair, with `preference` and `right`: ``attacker`` if people also prefer its better
        image, ``defender`` if they see no difference, ``neither`` if they prefer the other image.
    """
    judged = pairs[pairs["reason"] == ""].copy()
    judged["preference"] = gaps = judged.index.to_series().map(dict(preference)).astype(float)
    judged["right"] = np.select([gaps >= least, gaps <= -least], ["attacker", "neither"], "defender")
    return judged


def how_often_right(judged: pd.DataFrame) -> pd.DataFrame:
    """Count how often each scorer was right as attacker and as defender.

    Each image counts once: if pairs of a scorer share an image, only the pair with the largest gap counts.
    The verdicts then come from different images, as SciPy's exact interval of a proportion requires.

    Args:
        judged: from `who_was_right`.

    Returns:
        A row for each side and scorer: `side` (``attacker``, ``defender``), `scorer`, `pairs` (the counted
        ones), the count of each verdict of `RIGHT`, `share` (pairs in which the scorer was right), `low`,
        `high`.
    """
    strongest, rows = judged.sort_values("gap_percent", ascending=False, kind="stable"), []
    for side in ("attacker", "defender"):
        for scorer in _scorers(judged):
            seen: set = set()
            verdicts = []
            for pair in strongest[strongest[side] == scorer].itertuples():
                if not seen & {pair.better, pair.worse}:
                    seen |= {pair.better, pair.worse}
                    verdicts.append(pair.right)
            counts = {verdict: verdicts.count(verdict) for verdict in RIGHT}
            row: dict[str, object] = {"side": side, "scorer": scorer, "pairs": len(verdicts), **counts}
            if verdicts:
                found = binomtest(counts[side], len(verdicts)).proportion_ci()
                row |= {"share": counts[side] / len(verdicts), "low": found.low, "high": found.high}
            rows.append(row)
    return pd.DataFrame(rows, columns=["side", "scorer", "pairs", *RIGHT, "share", "low", "high"])


def let_people_judge(people: pd.Series, pairs: pd.DataFrame) -> tuple[Competition, pd.DataFrame]:
    """Evaluate a competition with MOS: attack and resistance, and how often each scorer was right.

    Args:
        people: MOS by image. pairs: from `compete`.
    """
    preferred = preference(pairs, people)
    return attack_resistance(pairs, preferred), how_often_right(who_was_right(pairs, preferred))


def _scorers(pairs: pd.DataFrame) -> list[str]:
    return list(dict.fromkeys([*pairs["defender"], *pairs["attacker"]]))


def _over_levels(
    fought: pd.DataFrame, values: pd.Series, rows: str, columns: str, scorers: Sequence[str]
) -> pd.DataFrame:
    """Average the pairs' values over the levels, weighted by their shares: (M, M), NaN without a pair."""
    weighed = fought[[rows, columns]].assign(x=values * fought["share"], p=fought["share"])
    sums = weighed.groupby([rows, columns])[["x", "p"]].sum()
    return (sums["x"] / sums["p"]).unstack(columns).reindex(index=scorers, columns=scorers)


def _thurstone(wins: pd.DataFrame) -> np.ndarray:
    """Fit (M,) zero-mean strengths to (M, M) wins of row over column, by maximum likelihood under case V."""
    counts = np.nan_to_num(wins.to_numpy(dtype=float)).clip(min=0)

    def loss(strength: np.ndarray) -> float:
        log_win = norm.logcdf(strength[:, None] - strength[None, :])
        return -(counts * log_win).sum() + 0.5 * (strength**2).sum()

    strength = minimize(loss, np.zeros(len(counts)), method="L-BFGS-B").x
    return strength - strength.mean()


def _no_pair(attack: np.ndarray, attacker: str) -> str:
    """Return why the images of a level, with these scores of the attacker, have no pair; "" if they have."""
    if len(attack) < 2:
        return "no image at this level" if len(attack) == 0 else "a single image at this level"
    return f"{attacker} gives all images of this level the same score" if attack.max() == attack.min() else ""
