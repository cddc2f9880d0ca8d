"""The gMAD competition, from the data frames of `studies.gmad`; its pairs are drawn by `figures.pictures`."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from liqe_core.figures.style import COLORS, GREY, new_figure, signed


def attack_resistance_figure(competition) -> Figure:
    """A `gmad.Competition`: the two matrices as heat maps, and the global strengths beside them."""
    attack, resistance, ranking = competition
    order = list(ranking.index)
    count = len(order)
    figure = new_figure(4.2 + 1.6 * count, 1.9 + 0.55 * count)
    panels = figure.subplots(1, 3, width_ratios=[count, count, 0.75 * count + 0.6])
    for axes, matrix, title, other in (
        (panels[0], attack, "Attack", "defender"),
        (panels[1], resistance, "Resistance", "attacker"),
    ):
        values = matrix.reindex(index=order, columns=order).to_numpy(dtype=float)
        # Aggressiveness by human preference can be negative; then the scale is symmetric and diverging.
        negative = bool(np.nanmin(values, initial=0) < 0)
        shades = (
            {"cmap": "RdBu", "vmin": -100, "vmax": 100}
            if negative
            else {"cmap": "Blues", "vmin": 0, "vmax": 100}
        )
        axes.set_facecolor("#EEEEEE")
        axes.imshow(np.ma.masked_invalid(values), **shades)
        for (i, j), value in np.ndenumerate(values):
            text = "·" if np.isnan(value) else signed(value, 0)
            axes.text(j, i, text, ha="center", va="center", color="white" if abs(value) > 60 else "black")
        axes.set_xticks(range(count), order, rotation=40, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(count), order)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set_title(f"{title} (row, against column)", fontsize="medium")
        axes.set_xlabel(other)
    axes, rows = panels[2], np.arange(count)
    axes.barh(rows - 0.19, ranking["attack"], 0.34, color=COLORS[1], label="attack")
    axes.barh(rows + 0.19, ranking["resistance"], 0.34, color=COLORS[0], label="resistance")
    axes.axvline(0, color=GREY, linewidth=0.8)
    axes.set_yticks(rows, order)
    axes.invert_yaxis()
    axes.set_title("Global strength (case V)", fontsize="medium")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.legend(frameon=False, fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2)
    return figure
