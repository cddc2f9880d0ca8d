"""What a data set is: its scores, its labels, its parts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from liqe_core.figures.style import drawing, legend, listed, palette, panels, plain


@drawing
def score_histograms(table: pd.DataFrame) -> Figure:
    """Human scores of every data set, side by side, each on its own scale.

    Args:
        table: ``dataset``, ``mos``.
    """
    sets = list(dict.fromkeys(table["dataset"]))
    figure, axes = panels(sets, 2.9, 2.5, least=2)
    for ax, name in zip(axes, sets, strict=True):
        ax.hist(table.loc[table["dataset"] == name, "mos"], bins=30, color=palette().tasks["quality"])
        ax.set_xlabel("score")
        plain(ax, "y")
    ranges = table.groupby("dataset", sort=False)["mos"].agg(["min", "max"])
    told = ", ".join(f"{row.Index} {row.min:.3g} to {row.max:.3g}" for row in ranges.itertuples())
    return figure.described(f"Histograms of human scores, a panel a data set, each on its own scale: {told}.")


@drawing
def label_counts(table: pd.DataFrame) -> Figure:
    """How many pictures show each scene and each distortion; data sets stacked.

    Args:
        table: ``dataset``, ``scenes`` (tuples), ``distortion_group``.
    """
    columns = {"scene": "scenes", "distortion": "distortion_group"}
    figure, axes = panels(list(columns), 5.5, 3.8)
    looks: list[dict[str, Any]] = [
        {"color": c, "hatch": h} for h in ("", "//", "..") for c in palette().colors
    ]
    exploded = table.explode("scenes", ignore_index=True)
    for ax, (title, column) in zip(axes, columns.items(), strict=True):
        of = exploded if title == "scene" else table
        counts = pd.crosstab(of[column], of["dataset"])
        counts = counts.loc[counts.sum(axis=1).sort_values(ascending=False).index]
        left = np.zeros(len(counts))
        for look, name in zip(looks, counts.columns, strict=False):
            ax.barh(range(len(counts)), counts[name], left=left, label=name, **look)
            left += counts[name].to_numpy()
        ax.set_yticks(range(len(counts)), counts.index)
        ax.invert_yaxis()
        ax.set(xlabel="pictures")
        plain(ax, "x")
    legend(figure)
    scenes, faults = exploded["scenes"].value_counts(), table["distortion_group"].value_counts()
    return figure.described(
        f"Bars: pictures a scene ({listed(scenes, 'd')}) and a distortion ({listed(faults, 'd')}), "
        "stacked by data set."
    )


@drawing
def session_sizes(table: pd.DataFrame) -> Figure:
    """How many pictures each session trains on, validates on and tests on; a panel a data set.

    Args:
        table: ``dataset`` and ``session_1`` .. ``session_10``.
    """
    sets = list(dict.fromkeys(table["dataset"]))
    figure, axes = panels(sets, 3.1, 2.4, least=2.2)
    colors = dict(zip(("train", "val", "test"), palette().colors, strict=False))
    sessions = [c for c in table if c.startswith("session_")]
    for ax, name in zip(axes, sets, strict=True):
        bottom = np.zeros(len(sessions))
        for part, color in colors.items():
            counts = (table.loc[table["dataset"] == name, sessions] == part).sum().to_numpy()
            ax.bar(range(1, len(sessions) + 1), counts, bottom=bottom, color=color, label=part)
            bottom += counts
        ax.set(xlabel="session", xticks=range(1, len(sessions) + 1))
        plain(ax, "y")
    legend(figure, axes)
    return figure.described(
        f"Stacked bars: pictures to train, validate and test on in {len(sessions)} sessions, "
        f"a panel for each of {', '.join(sets)}."
    )
