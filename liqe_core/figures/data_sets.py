"""What a data set is: its scores, its labels, its parts."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.figure import Figure

from liqe_core.figures.style import TASK_COLORS, listed, new_figure, panels, plain


def score_histograms(table: pd.DataFrame) -> Figure:
    """Human scores of every data set, side by side, each on its own scale.

    Args:
        table: ``dataset``, ``mos``.
    """
    sets = list(dict.fromkeys(table["dataset"]))
    figure, axes = panels(sets, 2.9, 2.5)
    for ax, name in zip(axes, sets, strict=True):
        ax.hist(table.loc[table["dataset"] == name, "mos"], bins=30, color=TASK_COLORS["quality"])
        ax.set_xlabel("score")
        plain(ax, "y")
    ranges = table.groupby("dataset", sort=False)["mos"].agg(["min", "max"])
    told = ", ".join(f"{row.Index} {row.min:.3g} to {row.max:.3g}" for row in ranges.itertuples())
    return figure.described(f"Histograms of human scores, a panel a data set, each on its own scale: {told}.")


def label_counts(table: pd.DataFrame) -> Figure:
    """How many pictures show each scene and each distortion; data sets stacked.

    Args:
        table: ``dataset``, ``scenes`` (tuples), ``distortion_group``.
    """
    figure = new_figure(11, 3.8)
    columns = {"scene": "scenes", "distortion": "distortion_group"}
    exploded = table.explode("scenes", ignore_index=True)
    for ax, (title, column) in zip(figure.subplots(1, 2), columns.items(), strict=True):
        of = exploded if title == "scene" else table
        counts = pd.crosstab(of[column], of["dataset"])
        counts = counts.loc[counts.sum(axis=1).sort_values(ascending=False).index]
        left = np.zeros(len(counts))
        for number, name in enumerate(counts.columns):
            ax.barh(range(len(counts)), counts[name], left=left, color=colormaps["tab10"](number), label=name)
            left += counts[name].to_numpy()
        ax.set_yticks(range(len(counts)), counts.index)
        ax.invert_yaxis()
        ax.set(title=title, xlabel="pictures")
        plain(ax, "x")
        if counts.shape[1] > 1:
            ax.legend(frameon=False, fontsize=8)
    scenes, faults = exploded["scenes"].value_counts(), table["distortion_group"].value_counts()
    return figure.described(
        f"Bars: pictures a scene ({listed(scenes, 'd')}) and a distortion ({listed(faults, 'd')}), "
        "stacked by data set."
    )


def session_sizes(table: pd.DataFrame) -> Figure:
    """How many pictures each session trains on, validates on and tests on; a panel a data set.

    Args:
        table: ``dataset`` and ``session_1`` .. ``session_10``.
    """
    sets = list(dict.fromkeys(table["dataset"]))
    figure, axes = panels(sets, 3.1, 2.4)
    colors = {"train": "#56B4E9", "val": "#F0E442", "test": "#D55E00"}
    sessions = [c for c in table if c.startswith("session_")]
    for ax, name in zip(axes, sets, strict=True):
        bottom = np.zeros(len(sessions))
        for part, color in colors.items():
            counts = (table.loc[table["dataset"] == name, sessions] == part).sum().to_numpy()
            ax.bar(range(1, len(sessions) + 1), counts, bottom=bottom, color=color, label=part)
            bottom += counts
        ax.set(xlabel="session", xticks=range(1, len(sessions) + 1))
        plain(ax, "y")
    axes[0].legend(frameon=False, fontsize=8, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.1))
    return figure.described(
        f"Stacked bars: pictures to train, validate and test on in {len(sessions)} sessions, "
        f"a panel for each of {', '.join(sets)}."
    )
