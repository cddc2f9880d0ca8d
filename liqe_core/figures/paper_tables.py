"""The paper's tables as figures, from the data frames of `studies.paper_tables`."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from liqe_core.figures.style import FAINT, INK, new_figure


def shaded_table(
    text: pd.DataFrame, distance: pd.DataFrame, title: str = "", limit: float = 0.05, label: str = ""
) -> Figure:
    """A table as a figure, a cell shaded by how far ours lies from the published number.

    Args:
        text: what each cell says. distance: ours less published, the same shape; NaN is not shaded.
        limit: the distance of the darkest shade.
    """
    lines = [max(str(cell).count("\n") + 1 for cell in row) for row in text.to_numpy()]
    heights = [0.12 + 0.17 * count for count in lines]  # inches
    top, columns = [0.0, *itertools.accumulate(heights)], text.shape[1]
    figure = new_figure(1.9 + 0.86 * columns, 0.9 + top[-1])
    ax = figure.subplots()
    shades, scale = colormaps["RdBu"], Normalize(-limit, limit)
    for (i, j), value in np.ndenumerate(distance.to_numpy(dtype=float)):
        known, cell = not np.isnan(value), str(text.iat[i, j])
        color = shades(scale(np.clip(value, -limit, limit))) if known else "#FFFFFF"
        ax.add_patch(Rectangle((j, top[i]), 1, heights[i], facecolor=color, edgecolor=FAINT, linewidth=0.8))
        dark, number = known and abs(value) > 0.7 * limit, cell[:1].isdigit() or cell[:1] == "-"
        ink = "white" if dark else INK if number else "#888888"
        ax.text(j + 0.5, top[i] + heights[i] / 2, cell, ha="center", va="center", fontsize=7.5, color=ink)
    ax.set(xlim=(0, columns), ylim=(top[-1], 0), title=title)
    ax.set_xticks(np.arange(columns) + 0.5, text.columns, fontsize=8)
    ax.set_yticks(np.array(top[:-1]) + np.array(heights) / 2, text.index, fontsize=8)
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    if distance.notna().any(axis=None):
        bar = ScalarMappable(scale, shades)
        figure.colorbar(bar, ax=ax, label=label or "ours less published", fraction=0.03, pad=0.01)
    rows, heads = ("; ".join(map(str, names)) for names in (text.index, text.columns))
    told = "no number of ours to compare with"
    if distance.notna().any(axis=None):
        ours = distance.stack()
        told = f"ours less published lies between {ours.min():+.3f} and {ours.max():+.3f}"
    return figure.described(f"A table: {title}; {told}. Rows: {rows}. Columns: {heads}.")
