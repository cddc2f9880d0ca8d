"""What LIQE answers about one picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from liqe_core.figures.style import QUALITY_COLORS, drawing, palette, panels, plain


@drawing
def answer(image: np.ndarray, answers: Mapping[str, pd.Series], quality: float) -> Figure:
    """One picture and the marginal probability of each quality, scene and distortion.

    Args:
        image: (H, W, 3).
        answers: axis name to probabilities, indexed by word.
        quality: the expected quality, marked among the quality words (1 is the first).
    """
    paint, ratios = palette(), [1.7] + [1] * len(answers)
    figure, axes = panels(["", *answers], 2.75, 4.2, least=2.3, ratios=ratios)
    axes[0].imshow(image)
    axes[0].set_axis_off()
    for ax, (axis, p) in zip(axes[1:], answers.items(), strict=True):
        ax.barh(range(len(p)), p, color=paint.tasks[axis])
        ax.set_yticks(range(len(p)), p.index)
        ax.invert_yaxis()
        ax.set(xlim=(0, 1), xlabel="probability")
        plain(ax, "x")
        if axis == "quality":
            ax.axhline(quality - 1, color=paint.ink, linewidth=1.2, linestyle="--")
            on_bars = {"facecolor": paint.ground, "edgecolor": "none", "pad": 1.5}
            words = f"expected {quality:.2f}"
            ax.text(0.98, quality - 1.1, words, ha="right", va="bottom", bbox=on_bars)
    most = ", ".join(f"{axis} {p.idxmax()} ({p.max():.2f})" for axis, p in answers.items())
    return figure.described(
        f"A picture, and bars of the probability of each {', '.join(answers)}. "
        f"Expected quality {quality:.2f} of 5; most probable: {most}."
    )


@drawing
def joint_maps(
    p: np.ndarray, qualities: Sequence[str], scenes: Sequence[str], distortions: Sequence[str]
) -> Figure:
    """The joint probability as heat maps, one a quality word; all on one scale.

    Args:
        p: (Q, S, D), summing to 1.
    """
    titles = [f"{word}\n(p = {part.sum():.2f})" for word, part in zip(qualities, p, strict=True)]
    figure, axes = panels(titles, 2.8, 3.8, most=len(titles), least=1.95, sharey=True)
    for ax, part in zip(axes, p, strict=True):
        shown = ax.imshow(part.T, cmap=palette().sequential, vmin=0, vmax=p.max(), aspect="auto")
        ax.set_xticks(range(len(scenes)), scenes, rotation=60, ha="right", rotation_mode="anchor")
        ax.set_yticks(range(len(distortions)), distortions)
        ax.tick_params(length=0)
    figure.colorbar(shown, ax=list(axes), label="joint probability", fraction=0.03, pad=0.01)
    q, s, d = map(int, np.unravel_index(np.argmax(p), p.shape))
    return figure.described(
        f"Heat maps, one for each quality word: {', '.join(qualities)}; scenes across, distortions down. "
        f"The most probable combination is {qualities[q]}, {scenes[s]}, {distortions[d]} ({p.max():.2f})."
    )


@drawing
def crop_by_crop(image: np.ndarray, windows: np.ndarray, window: int, qualities: np.ndarray) -> Figure:
    """Where the crops of a picture lie, and the quality of each by itself.

    Args:
        image: (H, W, 3), as the windows were laid over it.
        windows: (U, 2) of (y, x).
        window: side in pixels.
        qualities: (U,) expected quality.
    """
    paint = palette()
    figure, (left, right) = panels(["", ""], 5.5, 4.6, ratios=[1.6, 1])
    left.imshow(image)
    left.set_axis_off()
    low, high = float(qualities.min()), float(qualities.max())
    colors = QUALITY_COLORS((qualities - low) / max(high - low, 1e-9))
    for number, ((y, x), color) in enumerate(zip(windows, colors, strict=True), 1):
        left.add_patch(Rectangle((x, y), window, window, fill=False, edgecolor="white", linewidth=3))
        left.add_patch(Rectangle((x, y), window, window, fill=False, edgecolor=color, linewidth=1.8))
        left.text(
            x + 4, y + 4, str(number), color="white", fontsize="small", va="top", backgroundcolor="#00000080"
        )
    numbers = np.arange(1, len(qualities) + 1)
    right.vlines(numbers, qualities.mean(), qualities, color=paint.faint)
    right.axhline(qualities.mean(), color=paint.ink, linewidth=1.2, linestyle="--", label="mean of the crops")
    right.scatter(numbers, qualities, color=colors, edgecolor=paint.ink, linewidth=0.5, zorder=3)
    right.set(xlabel="crop", ylabel="quality of the crop by itself", xticks=numbers)
    right.legend(loc="lower center", bbox_to_anchor=(0.5, 1))
    plain(right, "y")
    return figure.described(
        f"The picture with its {len(qualities)} windows drawn on it, numbered, and the quality of each by "
        f"itself: {low:.2f} to {high:.2f}, mean {qualities.mean():.2f}."
    )
