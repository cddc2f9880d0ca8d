"""Figures of LIQE's answer for one image."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from liqe_core.figures.saving import drawing
from liqe_core.figures.style import (
    MARKERS,
    QUALITY_COLORS,
    Drawn,
    legend,
    listed,
    name_rows,
    palette,
    panels,
    plain,
)
from liqe_core.images import read_image


def expected_quality(probability: pd.Series) -> float:
    """Compute the expected position among the quality words, counted from 1."""
    return float(probability @ np.arange(1, len(probability) + 1))


def draw_words(ax: Axes, axis: str, probability: pd.Series) -> None:
    """Draw a bar for each word of an axis, and a line at the expected quality."""
    ax.barh(range(len(probability)), probability, color=palette().tasks[axis])
    name_rows(ax, probability.index)
    ax.set_xlim(0, 1)
    plain(ax, "x")
    if axis == "quality":
        expected = expected_quality(probability) - 1
        ax.axhline(expected, color=palette().ink, linewidth=1.2, linestyle="--")


def frame_window(ax: Axes, window: Any, color: Any, width: float) -> None:
    """Frame a window (``x``, ``y`` and ``side``), with a white border that is visible on any image."""
    for edge, linewidth in (("white", 1.5 * width + 0.3), (color, width)):
        look: dict[str, Any] = {"fill": False, "edgecolor": edge, "linewidth": linewidth}
        ax.add_patch(Rectangle((window.x, window.y), window.side, window.side, **look))


_LEAST = 0.005  # least probability of a quality word that gets a heat map


@drawing("answer", "quickstart", "One image, and the probability of each quality, scene and distortion.")
def answer(table: pd.DataFrame, images: pd.DataFrame) -> Drawn:
    """Draw an image, its marginals of quality, scene and distortion, and the expected quality.

    Args:
        table: ``axis``, ``word`` and ``probability``, quality words from worst to best.
        images: one image, from `saving.image_table`.
    """
    words = table.set_index("word").groupby("axis", sort=False)["probability"]
    answers = dict(iter(words))
    quality = expected_quality(answers["quality"])
    ratios = [1.7] + [1] * len(answers)
    figure, axes = panels(["", *answers], 2.75, 4.2, least=2.3, width_ratios=ratios)
    axes[0].imshow(read_image(images["file"].iloc[0]))
    axes[0].set_axis_off()
    for ax, (axis, p) in zip(axes[1:], answers.items(), strict=True):
        draw_words(ax, axis, p)
        ax.set_xlabel("probability")
        if axis == "quality":
            ax.set_title(f"quality: {quality:.2f} expected")
    most = ", ".join(f"{axis} {p.idxmax()} ({p.max():.2f})" for axis, p in answers.items())
    return figure.described(
        f"An image, and bar charts of the probabilities of {', '.join(answers)}. "
        f"Expected quality {quality:.2f} of 5; most probable: {most}."
    )


@drawing("joint", "quickstart", "The joint probability of that image, one heat map per quality word.")
def joint_maps(table: pd.DataFrame, most: float | None = None) -> Drawn:
    """Draw the joint probability as heat maps on one scale, one for each quality word above half a percent.

    Args:
        table: ``quality``, ``scene``, ``distortion`` and ``probability``, in that order.
        most: the probability at the top of the color scale; None: the highest one.
    """
    axes_of_words = ("quality", "scene", "distortion")
    qualities, scenes, distortions = (list(table[axis].unique()) for axis in axes_of_words)
    p = table["probability"].to_numpy().reshape(len(qualities), len(scenes), len(distortions))
    sums = p.sum(axis=(1, 2))
    kept = np.flatnonzero(sums >= min(_LEAST, sums.max()))
    qualities, p = [qualities[row] for row in kept], p[kept]
    titles = [f"{word}\n(p = {part.sum():.2f})" for word, part in zip(qualities, p, strict=True)]
    figure, axes = panels(titles, max(2.8, 4.6 / len(titles)), 3.8, most=len(titles), least=1.95, sharey=True)
    for ax, part in zip(axes, p, strict=True):
        shown = ax.imshow(part.T, cmap=palette().sequential, vmin=0, vmax=most or p.max(), aspect="auto")
        ax.set_xticks(range(len(scenes)), scenes, rotation=60, ha="right", rotation_mode="anchor")
        ax.set_yticks(range(len(distortions)), distortions)
        ax.tick_params(length=0)
    figure.colorbar(shown, ax=list(axes), label="joint probability", fraction=0.03, pad=0.01)
    likeliest = table.loc[table["probability"].idxmax(), list(axes_of_words)]
    return figure.described(
        f"Heat maps for the quality words {', '.join(qualities)}; columns are scenes, rows are distortions. "
        f"The most probable combination is {', '.join(likeliest)} ({p.max():.2f})."
    )


@drawing("crops", "quickstart", "The crops of that image, each with its quality.")
def crop_by_crop(windows: pd.DataFrame, images: pd.DataFrame) -> Drawn:
    """Draw the centers of an image's crops, frames of the worst and best crop, and the quality of each crop.

    Args:
        windows: ``y``, ``x`` and ``side`` in pixels, and the expected ``quality``.
        images: one image, from `saving.image_table`, at the size from which the crops are cut.
    """
    paint, qualities = palette(), windows["quality"].to_numpy()
    figure, (image_ax, quality_ax) = panels(["", ""], 5.5, 4.6, width_ratios=[1.6, 1])
    image_ax.imshow(read_image(images["file"].iloc[0]))
    image_ax.set_axis_off()
    low, high = float(qualities.min()), float(qualities.max())
    colors = QUALITY_COLORS((qualities - 1) / 4)
    for row in dict.fromkeys([int(qualities.argmin()), int(qualities.argmax())]):
        frame_window(image_ax, windows.iloc[row], colors[row], 1.8)
    for number, window in enumerate(windows.itertuples(), 1):
        look: dict[str, Any] = {"color": "white", "fontsize": "small", "backgroundcolor": "#00000080"}
        middle = window.x + window.side / 2, window.y + window.side / 2
        image_ax.text(*middle, str(number), ha="center", va="center", **look)
    numbers = np.arange(1, len(qualities) + 1)
    quality_ax.vlines(numbers, qualities.mean(), qualities, color=paint.faint)
    quality_ax.axhline(qualities.mean(), color=paint.ink, linewidth=1.2, ls="--", label="mean of the crops")
    quality_ax.scatter(numbers, qualities, color=colors, edgecolor=paint.ink, linewidth=0.5, zorder=3)
    quality_ax.set(xlabel="crop", ylabel="quality of the crop alone", xticks=numbers, ylim=(0.9, 5.1))
    quality_ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1))
    plain(quality_ax, "y")
    return figure.described(
        f"The image with the numbered centers of its {len(qualities)} crops, and the quality of each crop "
        f"alone: {low:.2f} to {high:.2f}, mean {qualities.mean():.2f}."
    )


@drawing("fault_curves", "quickstart", "The quality of a photograph at rising levels of distortions.")
def fault_curves(table: pd.DataFrame) -> Drawn:
    """Draw the quality of a photograph over the level of each distortion, filled where it is named.

    Args:
        table: ``fault``, its ``level``, the ``quality``, and whether the model ``named`` it.
    """
    figure, (ax,) = panels([""], 6.2, 3.6)
    for color, marker, (fault, rows) in zip(
        palette().colors, MARKERS, table.groupby("fault", sort=False), strict=False
    ):
        filled = [color if named else palette().ground for named in rows["named"]]
        ax.plot(rows["level"], rows["quality"], color=color, label=fault)
        ax.scatter(rows["level"], rows["quality"], c=filled, edgecolor=color, marker=marker, zorder=3)
    ax.set(xlabel="level of the distortion", ylabel="quality", ylim=(0.9, 5.1))
    ax.set_xticks(sorted(table["level"].unique()))
    plain(ax, "y")
    legend(figure)
    last = table.groupby("fault", sort=False)["quality"].last()
    return figure.described(
        f"A line for each distortion: quality over its level; at the highest level {listed(last)}. "
        f"The model names the distortion in {table['named'].sum()} of {len(table)} images."
    )
