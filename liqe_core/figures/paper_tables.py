"""The paper's tables as figures, from the data frames of `studies.paper_tables`."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from liqe_core.figures.style import drawing, new_figure, palette, readable_on, room


@drawing
def shaded_table(
    text: pd.DataFrame, distance: pd.DataFrame, title: str = "", limit: float = 0.05, label: str = ""
) -> Figure:
    """A table as a figure, a cell shaded by how far ours lies from the published number.

    Args:
        text: what each cell says. distance: ours less published, the same shape; NaN is not shaded.
        limit: the distance of the darkest shade.
    """
    # As many columns as there is room for, and the rest below; a data set's measures stay together.
    names, width = max(len(line) for row in text.index for line in str(row).split("\n")), 0.86
    beside = 0.3 + 0.075 * names
    shaded = bool(distance.notna().any(axis=None))
    fit = max(1, int(min(text.shape[1], (room() - beside - 0.6 * shaded) / 0.6)))
    groups = [len(list(of)) for _, of in itertools.groupby(text.columns, lambda name: name.split("\n")[0])]
    blocks = _blocks(groups, fit)
    lines = [max(str(cell).count("\n") + 1 for cell in row) for row in text.to_numpy()]
    heights = [
        0.12 + 0.17 * max(count, str(row).count("\n") + 1)
        for row, count in zip(text.index, lines, strict=True)
    ]
    top, most = [0.0, *itertools.accumulate(heights)], max(len(block) for block in blocks)  # inches
    figure, paint = new_figure(beside + width * most, (0.9 + top[-1]) * len(blocks)), palette()
    axes = figure.subplots(len(blocks), 1, squeeze=False)[:, 0]
    shades, scale = paint.diverging, Normalize(-limit, limit)
    for ax, block in zip(axes, blocks, strict=True):
        for (i, j), value in np.ndenumerate(distance.iloc[:, block].to_numpy(dtype=float)):
            known, cell = not np.isnan(value), str(text.iat[i, block[j]])
            color = shades(scale(np.clip(value, -limit, limit))) if known else paint.ground
            place = Rectangle(
                (j, top[i]), 1, heights[i], facecolor=color, edgecolor=paint.faint, linewidth=0.8
            )
            ax.add_patch(place)
            number = cell[:1].isdigit() or cell[:1] == "-"
            ink = readable_on(color) if known else paint.ink if number else paint.grey
            look = {"ha": "center", "va": "center", "fontsize": "x-small", "color": ink}
            ax.text(j + 0.5, top[i] + heights[i] / 2, cell, **look)
        ax.set(xlim=(0, most), ylim=(top[-1], 0))
        ax.set_xticks(np.arange(len(block)) + 0.5, text.columns[block], fontsize="small")
        ax.set_yticks(np.array(top[:-1]) + np.array(heights) / 2, text.index, fontsize="small")
        ax.xaxis.tick_top()
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
    axes[0].set_title(title)
    if shaded:
        bar, told = ScalarMappable(scale, shades), label or "ours less published"
        figure.colorbar(bar, ax=list(axes), label=told, fraction=0.03, pad=0.01)
    rows, heads = ("; ".join(map(str, names)) for names in (text.index, text.columns))
    told = "no number of ours to compare with"
    if distance.notna().any(axis=None):
        ours = distance.stack()
        told = f"ours less published lies between {ours.min():+.3f} and {ours.max():+.3f}"
    return figure.described(f"A table: {title}; {told}. Rows: {rows}. Columns: {heads}.")


def _blocks(groups: list[int], fit: int) -> list[list[int]]:
    """Columns in blocks of about equal size, at most `fit` where groups allow: a group is not cut."""
    count = -(-sum(groups) // fit)
    size = max(-(-sum(groups) // count), max(groups))
    blocks: list[list[int]] = [[]]
    start = 0
    for group in groups:
        if blocks[-1] and len(blocks[-1]) + group > size:
            blocks.append([])
        blocks[-1] += range(start, start + group)
        start += group
    return blocks
