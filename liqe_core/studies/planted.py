"""Planted data sets: slices of one set of qualities, each seen through a scale of its own that is known.

They stand in for several data sets where there is only one, and check `realign` where the answer is known.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pandas as pd

from liqe_core.studies.realign import Realignment, judged, realign


@dataclasses.dataclass(frozen=True)
class Warp:
    """A made-up scale.

    Attributes:
        scale: from quality, 1..5, to the set's score; rising.
        range: the lowest and highest score that the set's people could give.
        covers: the part of the quality scale that the set's pictures come from.
        words: what it does, for a table.
    """

    scale: Callable[[np.ndarray], np.ndarray]
    range: tuple[float, float]
    covers: tuple[float, float]
    words: str


def _part(quality: np.ndarray) -> np.ndarray:
    return (quality - 1) / 4


WARPS = {
    "plain": Warp(lambda q: 100 * _part(q), (0, 100), (1, 5), "0..100, straight"),
    "lenient": Warp(lambda q: 10 * _part(q) ** 0.5, (0, 10), (1, 5), "0..10, people give high scores"),
    "strict": Warp(lambda q: 1 + 8 * _part(q) ** 2, (1, 9), (1, 5), "1..9, people give low scores"),
    "web": Warp(lambda q: np.clip((q - 2) / 2, 0, 1), (0, 1), (2, 4), "0..1, middling pictures only"),
}


def plant(quality: pd.Series, noise: float = 0.15, seed: int = 1) -> pd.DataFrame:
    """Deal pictures out to the planted sets, evenly, and give each the score of its set's scale.

    Args:
        quality: of each picture, 1..5.
        noise: standard deviation of what people disagree on, in points of quality, before the scale.
        seed: of the dealing and the noise.

    Returns:
        A row a picture that got into a set, in the order given: `dataset`, `quality`, `mos`, `jitter` (other
        noise of the same size, for a stand-in prediction). A picture outside of what its set covers goes to
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
    columns = {
        "what we planted": {name: warp.words for name, warp in WARPS.items()},
        "error before": error["naive"] ** 0.5,
        "error after": error["aligned"] ** 0.5,
        "held": check.curves["held"],
    }
    return check, pd.DataFrame(columns).reindex(WARPS)
