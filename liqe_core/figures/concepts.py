"""The ideas of the method, drawn: what marginals lose, fidelity against cross-entropy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from liqe_core.figures.saving import drawing
from liqe_core.figures.style import (
    QUALITY_COLORS,
    STYLES,
    Drawn,
    heat_map,
    legend,
    listed,
    new_figure,
    palette,
    panels,
    plain,
)


@drawing("same_marginals", "concepts", "Two joint distributions that have the same marginals.")
def joints(table: pd.DataFrame, titles: Mapping[str, str]) -> Drawn:
    """Joint distributions side by side, each with its two marginals around it.

    Args:
        table: ``which`` of the titles, ``quality``, and the probabilities: a column a word of distortion.
        titles: what stands above, by ``which``.
    """
    parts = table.set_index("quality").groupby("which")
    tables = {title: parts.get_group(key).drop(columns="which") for key, title in titles.items()}
    figure = new_figure(4.6 * len(tables), 3.4)
    most = max(float(joint.to_numpy().max()) for joint in tables.values())
    for part, (title, joint) in zip(
        figure.subfigures(1, len(tables), squeeze=False)[0], tables.items(), strict=True
    ):
        grid = part.add_gridspec(2, 2, width_ratios=[3, 1], height_ratios=[1, 2])
        middle, above, beside = (part.add_subplot(grid[place]) for place in ((1, 0), (0, 0), (1, 1)))
        look: dict[str, Any] = {"cmap": QUALITY_COLORS, "vmin": 0, "vmax": most, "aspect": "auto"}
        heat_map(middle, joint, "{:.2f}".format, **look)
        above.bar(range(joint.shape[1]), joint.sum(axis=0), color=palette().tasks["distortion"])
        beside.barh(range(joint.shape[0]), joint.sum(axis=1), color=palette().tasks["quality"])
        beside.invert_yaxis()
        above.set(ylim=(0, 1), xticks=[], xlim=middle.get_xlim(), title=title)
        beside.set(xlim=(0, 1), yticks=[], ylim=middle.get_ylim())
        for ax in (above, beside):
            plain(ax)
    marginals = [
        f"{title}: quality {listed(joint.sum(axis=1))}, distortion {listed(joint.sum(axis=0))}"
        for title, joint in tables.items()
    ]
    return figure.described(
        f"Heat maps of joint probabilities with bars of their marginals. {'; '.join(marginals)}."
    )


@drawing("losses_of_a_pair", "concepts", "Fidelity against cross-entropy, and their gradients.")
def losses_of_a_pair(table: pd.DataFrame) -> Drawn:
    """A pair's loss, and how hard it pushes, against the difference of the two predicted qualities.

    Args:
        table: columns `difference` (of the better picture's quality less the other's), `loss` (its name),
            `value`, `gradient` (of the loss by the difference).
    """
    figure, (value_ax, gradient_ax) = panels(["how wrong it is", "how hard it pushes"], 4.5, 3.6)
    losses = table.groupby("loss", sort=False)
    for (name, rows), color, style in zip(losses, palette().colors, STYLES, strict=False):
        value_ax.plot(rows["difference"], rows["value"], color=color, linestyle=style, label=name)
        gradient_ax.plot(rows["difference"], rows["gradient"].abs(), color=color, linestyle=style, label=name)
    value_ax.set(ylabel="loss of the pair")
    gradient_ax.set(ylabel="size of the gradient")
    for ax in (value_ax, gradient_ax):
        ax.axvline(0, color=palette().faint, zorder=0)
        ax.set_xlabel("predicted quality: the better picture's less the other's")
        plain(ax, "y")
    legend(figure)
    names = " and ".join(table["loss"].unique())
    return figure.described(
        f"Two panels of curves of {names} against the predicted difference of a pair: the loss, and the "
        "size of its gradient."
    )
