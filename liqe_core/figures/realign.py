"""Figures of realignment, from the data frames of `studies.realign`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from liqe_core.figures.gmad import Column, image_pairs
from liqe_core.figures.saving import drawing
from liqe_core.figures.style import STYLES, Drawn, dot, legend, listed, palette, panels, plain


@drawing("check_curves", "realignment", "Realignment of artificial datasets with known quality.")
@drawing("two_scales", "realignment", "The scores of BIQ2021 and HEVC on one scale.")
@drawing("overview", "realignment", "The curves of all datasets, and their realigned scales.")
def realignment_overview(curves: pd.DataFrame, points: pd.DataFrame, scale=(1.0, 5.0)) -> Drawn:
    """Draw the curves of all datasets, and the tenths of each dataset's range on the common scale.

    Args:
        curves: `Realignment.curves`, for the shift and stretch of each dataset.
        points: from `realign.curve_points`.
        scale: the ends of the common scale.
    """
    sets = list(pd.unique(points["dataset"]))
    titles = ["Before: MOS of each dataset", "After: tenths of its range, realigned"]
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
        "Left: the curve of each dataset from prediction to MOS. Right: the tenths of its range on "
        f"the common scale. Shift: {listed(curves.loc[sets, 'shift'], '+.2f')}. "
        f"Stretch: {listed(curves.loc[sets, 'stretch'])}."
    )


@drawing("same_score", "realignment", "Images with equal scores that differ after realignment.")
def same_score_grid(pairs: pd.DataFrame, images: pd.DataFrame) -> Drawn:
    """Draw images of two datasets with equal scores that differ after realignment, a column for each pair.

    Args:
        pairs: rows of `realign.same_score_pairs`, in drawing order, at most about 8.
        images: from `saving.image_table`, indexed by the labels in `pairs`.
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
