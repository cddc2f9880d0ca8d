"""The ideas of the method, drawn: two towers, what marginals lose, fidelity against cross-entropy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context, rcParams
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

from liqe_core.figures.saving import drawing
from liqe_core.figures.style import (
    QUALITY_COLORS,
    STYLES,
    Drawn,
    Palette,
    heat_map,
    legend,
    listed,
    new_figure,
    palette,
    panels,
    plain,
)
from liqe_core.images import read_image

_PAGE = 6.9  # inches; a column has no room for the towers
_BOX = (1.9, 0.8)  # width and height of a box, in units of the drawing


@drawing("two_towers", "concepts", "The architecture: two towers, one distribution, three losses.")
def two_towers(images: pd.DataFrame, sizes: Sequence[int], example: str) -> Drawn:
    """The architecture: a picture and its prompts, a tower each, one distribution, three sums, three losses.

    Args:
        images: one, from `saving.image_table`, on the left.
        sizes: how many words of quality, scene and distortion. example: one of the prompts.
    """
    figure, look = new_figure(11, 4.6), palette()
    width = max(figure.get_figwidth(), _PAGE)
    figure.set_size_inches(width, 4.6 * width / 11)
    letters = min(rcParams["font.size"], 10 * width / 11)  # points, of those that fit the boxes
    photo = np.asarray(read_image(images["file"].iloc[0]))
    with rc_context({"font.size": letters}):
        _draw_towers(figure.subplots(), look, photo, sizes, example)
    prompts = int(np.prod(sizes))
    return figure.described(
        f"The architecture, from left to right: a photograph's windows go through the image tower, {prompts} "
        "sentences through the text tower; cosine, mean over windows and softmax give one joint probability; "
        f"sums over the other two axes give {sizes[0]} words of quality, {sizes[1]} of scene and {sizes[2]} "
        "of distortion, each with its loss."
    )


def _draw_towers(ax: Axes, look: Palette, photo: np.ndarray, sizes: Sequence[int], example: str) -> None:
    ax.set(xlim=(0, 14.2), ylim=(0, 6))
    ax.set_aspect("equal")
    ax.axis("off")
    height = 1.9 * photo.shape[0] / photo.shape[1]
    ax.imshow(photo, extent=(0.1, 2.0, 4.6 - height / 2, 4.6 + height / 2), aspect="equal", zorder=2)
    ax.set(xlim=(0, 14.2), ylim=(0, 6))  # which imshow has changed
    ax.text(1.05, 4.45 - height / 2, "a photograph", ha="center", va="top", fontsize="small", color=look.grey)
    prompts = int(np.prod(sizes))
    words = example.replace(", ", ",\n", 1)
    _box(ax, 1.05, 1.4, f"{prompts} sentences", look.faint)
    example_look: dict[str, Any] = {"fontsize": "small", "color": look.grey, "style": "italic"}
    ax.text(0.1, 0.85, f"one of them:\n{words}", va="top", **example_look)
    _box(ax, 4.0, 4.6, "windows\n$x_u$", look.faint)
    _box(ax, 6.6, 4.6, "image tower\n$f$", look.colors[3] + "55")
    _box(ax, 6.6, 1.4, "text tower\n$g$", look.colors[3] + "55")
    _box(ax, 9.2, 3.0, "cosine, mean,\nsoftmax", look.faint)
    for start, end in (((2.05, 4.6), (3.05, 4.6)), ((4.95, 4.6), (5.65, 4.6)), ((2.0, 1.4), (5.65, 1.4))):
        _arrow(ax, start, end)
    _arrow(ax, (7.55, 4.6), (8.3, 3.4))
    _arrow(ax, (7.55, 1.4), (8.3, 2.6))
    ax.text(9.2, 2.45, "$p(c, s, d \\mid x)$", ha="center", va="top", fontsize="medium", color=look.ink)
    places = zip(look.tasks.items(), sizes, (4.9, 3.0, 1.1), strict=True)
    for (task, color), count, y in places:
        _arrow(ax, (10.15, 3.0), (11.0, y))
        _box(ax, 11.95, y, f"{task}\n{count} words", color + "33", color)
        ax.text(13.0, y, "its loss", ha="left", va="center", fontsize="small", color=color)
    ax.text(10.5, 5.7, "sum over the other two", ha="center", fontsize="small", color=look.grey)


def _box(ax: Axes, x: float, y: float, text: str, fill: str, edge: str = "") -> None:
    ink = palette().ink
    width, height = _BOX
    corner = (x - width / 2, y - height / 2)
    style = "round,pad=0.02,rounding_size=0.12"
    ax.add_patch(FancyBboxPatch(corner, width, height, boxstyle=style, facecolor=fill, edgecolor=edge or ink))
    ax.text(x, y, text, ha="center", va="center", fontsize="small", color=ink)


def _arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    style = {"arrowstyle": "-|>", "color": palette().grey, "shrinkA": 0, "shrinkB": 0}
    ax.annotate("", end, start, arrowprops=style)


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
