"""Realignment, from the data frames of `studies.realign`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from liqe_core.figures.gmad import Column, image_pairs
from liqe_core.figures.saving import drawing
from liqe_core.figures.style import STYLES, Drawn, dot, legend, listed, palette, panels, plain


@drawing("check_curves", "realignment", "Realignment where the answer is known.")
@drawing("two_scales", "realignment", "BIQ2021's and HEVC's scores on one scale.")
@drawing("overview", "realignment", "The curves of all sets, and where the tenths of their ranges land.")
def realignment_overview(curves: pd.DataFrame, points: pd.DataFrame, scale=(1.0, 5.0)) -> Drawn:
    """All sets in one: their curves, and where the tenths of each set's range land on the common scale.

    Args:
        curves: `Realignment.curves`, for the numbers beside the sets.
        points: `realign.curve_points`.
        scale: the common scale's ends.
    """
    sets = list(pd.unique(points["dataset"]))
    titles = ["Before: what each set's score means", "After: where the tenths of its range land"]
    paint, height = palette(), max(3.6, 2.1 + 0.42 * len(sets))
    figure, (curves_ax, tenths_ax) = panels(titles, 5.1, height, width_ratios=[1, 1.35])
    tenths = np.arange(1, 10) / 10
    naive = pd.DataFrame({"dataset": "naive", "raw": [0.0, 1.0], "prediction": scale})
    for row, (name, curve) in enumerate(pd.concat([naive, points]).groupby("dataset", sort=False)):
        colour, style = paint.grey, (0, (1, 2))
        if row > 0:
            colour, style = paint.colors[(row - 1) % len(paint.colors)], STYLES[(row - 1) % len(STYLES)]
            shift, stretch = curves.loc[name, ["shift", "stretch"]]
            beside = f"shift {'−' if shift < 0 else '+'}{abs(shift):.2f}   stretch {stretch:.2f}"
            place = tenths_ax.get_yaxis_transform()
            tenths_ax.text(1.01, row, beside, transform=place, va="center", fontsize="small")
        curves_ax.plot(
            curve["prediction"], curve["raw"], color=colour, linestyle=style, linewidth=1.8, label=name
        )
        reached = tenths[(tenths >= curve["raw"].min()) & (tenths <= curve["raw"].max())]
        lands = np.interp(reached, curve["raw"], curve["prediction"])
        tenths_ax.plot(curve["prediction"].iloc[[0, -1]], [row, row], color=colour, linewidth=1.2, alpha=0.6)
        tenths_ax.scatter(
            lands, np.full(len(lands), row), c=reached, cmap="viridis", vmin=0, vmax=1, s=dot(34), zorder=3
        )
        if row == 0:
            look: dict[str, Any] = {"ha": "center", "fontsize": "x-small", "color": paint.grey}
            for x, tenth in zip(lands, reached, strict=True):
                tenths_ax.text(x, -0.3, f"{tenth:.1f}", va="bottom", **look)
    curves_ax.set(xlim=scale, ylim=(0, 1), xlabel="prediction (common scale)", ylabel="human score / range")
    legend(figure)
    tenths_ax.set(xlim=scale, ylim=(len(sets) + 0.5, -0.8), xlabel="common scale")
    tenths_ax.set_xticks(np.arange(np.ceil(scale[0]), scale[1] + 1e-9))
    tenths_ax.set_yticks(range(len(sets) + 1), ["naive", *sets])
    tenths_ax.tick_params(axis="y", length=0)
    plain(curves_ax)
    plain(tenths_ax, "x")
    tenths_ax.spines["left"].set_visible(False)
    return figure.described(
        "Left, each set's curve from prediction to its score; right, where the tenths of its range land on "
        f"the common scale. Shift: {listed(curves.loc[sets, 'shift'], '+.2f')}. "
        f"Stretch: {listed(curves.loc[sets, 'stretch'])}."
    )


@drawing("same_score", "realignment", "Images that share a score and lie apart once realigned.")
def same_score_grid(pairs: pd.DataFrame, images: pd.DataFrame) -> Drawn:
    """Images of two datasets with the same score that lie apart once realigned: a column a row of the table.

    Args:
        pairs: rows of `realign.same_score_pairs`, in the order to draw, at most about 8.
        images: from `saving.image_table`, by the index labels that `pairs` names.
    """
    columns: list[Column] = []
    for row in pairs.itertuples(index=False):
        heading = f"raw score {(row.better_raw + row.worse_raw) / 2:.2f}\n{row.gap:.2f} apart"
        cells = [
            (row.better, f"{row.better_dataset}  ·  realigned {row.better_aligned:.2f}"),
            (row.worse, f"{row.worse_dataset}  ·  realigned {row.worse_aligned:.2f}"),
        ]
        columns.append((heading, "", cells))
    return image_pairs(columns, images["file"], ("better, realigned", "worse, realigned"))
