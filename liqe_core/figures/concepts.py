"""Figures of the method: fidelity and cross-entropy losses, and the stages of the model from scratch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from liqe_core.figures.saving import drawing
from liqe_core.figures.style import (
    MARKERS,
    QUALITY_COLORS,
    STYLES,
    Drawn,
    dot,
    legend,
    listed,
    name_rows,
    new_figure,
    palette,
    panels,
    plain,
)


@drawing("losses_of_a_pair", "concepts", "The fidelity loss and cross-entropy, and their gradients.")
def losses_of_a_pair(table: pd.DataFrame) -> Drawn:
    """Draw a pair's losses and their gradients over the difference of the two predicted qualities.

    Args:
        table: columns `difference` (the better image's quality minus the other's), `loss` (its name),
            `value`, `gradient` (of the loss by the difference).
    """
    figure, axes = panels(["loss", "gradient"], 4.5, 3.6)
    columns = {"value": "loss of the pair", "gradient": "magnitude of the gradient"}
    for ax, (column, label) in zip(axes, columns.items(), strict=True):
        losses = table.groupby("loss", sort=False)
        for (name, rows), color, style in zip(losses, palette().colors, STYLES, strict=False):
            sizes = rows[column].abs()  # abs changes only gradients
            ax.plot(rows["difference"], sizes, color=color, linestyle=style, label=name)
        ax.axvline(0, color=palette().faint, zorder=0)
        ax.set(xlabel="predicted quality: better image minus the other", ylabel=label)
        plain(ax, "y")
    legend(figure)
    names = " and ".join(table["loss"].unique())
    return figure.described(
        f"Curves of {names} over the predicted difference of a pair, in two panels: the loss, and the "
        "magnitude of its gradient."
    )


@drawing("similarity", "from_scratch", "Similarity of an image to every prompt, softmax and marginals.")
def similarity_and_marginals(table: pd.DataFrame) -> Drawn:
    """Draw the similarities of an image as a matrix, their softmax, and the marginals.

    Args:
        table: ``quality``, ``scene``, ``distortion``, ``similarity`` and ``probability``, quality-major.
    """
    axes_of_words = ("quality", "scene", "distortion")
    sums = {axis: table.groupby(axis, sort=False)["probability"].sum() for axis in axes_of_words}
    qualities, scenes, distortions = (list(p.index) for p in sums.values())
    paint, figure = palette(), new_figure(9.6, 6.6)
    grid = figure.add_gridspec(3, 4, width_ratios=[3, 3, 1.3, 1.7], height_ratios=[1.5, 6, 0.2])
    above, beside, apart = (figure.add_subplot(grid[place]) for place in ((0, 1), (1, 2), (1, 3)))
    middles = np.arange(len(qualities)) * len(scenes) + (len(scenes) - 1) / 2
    looks = {
        "similarity": ("mean cosine", QUALITY_COLORS, "white", qualities),
        "probability": ("joint probability", paint.sequential, paint.grey, []),
    }
    for column, (name, (label, colors, edge_color, bands)) in enumerate(looks.items()):
        ax = figure.add_subplot(grid[1, column])
        shown = ax.imshow(table[name].to_numpy().reshape(-1, len(distortions)), cmap=colors, aspect="auto")
        for edge in np.arange(1, len(qualities)) * len(scenes) - 0.5:
            ax.axhline(edge, color=edge_color, linewidth=0.8)
        ax.set_xticks(range(len(distortions)), distortions, rotation=60, ha="right", rotation_mode="anchor")
        ax.set_yticks(middles, bands)
        ax.tick_params(length=0)
        bar: dict[str, Any] = {"orientation": "horizontal", "label": label, "ticks": MaxNLocator(4)}
        figure.colorbar(shown, cax=figure.add_subplot(grid[2, column]), **bar)
        if bands:
            ax.set(title=name, ylabel=f"quality; each band has {len(scenes)} rows, one per scene")
    above.bar(range(len(distortions)), sums["distortion"], color=paint.tasks["distortion"])
    above.set(xlim=(-0.5, len(distortions) - 0.5), xticks=[], title="distortion: sum of a column")
    beside.barh(middles, sums["quality"], height=0.8 * len(scenes), color=paint.tasks["quality"])
    beside.set(
        ylim=(len(qualities) * len(scenes) - 0.5, -0.5),
        yticks=[],
        title="quality:\nsum of a band",
        xlabel="probability",
    )
    apart.barh(range(len(scenes)), sums["scene"], color=paint.tasks["scene"])
    name_rows(apart, scenes)
    apart.set_title("scene: sum of one\nrow of each band")
    for ax in (above, beside, apart):
        plain(ax)
    top = (f"{sums[axis].idxmax()} ({sums[axis].max():.2f})" for axis in ("quality", "distortion"))
    likeliest = " and ".join(top)
    return figure.described(
        f"Two heat maps of {len(table)} cells: the similarity of an image to each prompt, and its softmax, "
        f"with bars of its marginals for quality, scene and distortion. Most probable are {likeliest}."
    )


@drawing("overfitting", "from_scratch", "Overfitting to sixteen photographs: losses and weights over steps.")
def overfitting(steps: pd.DataFrame, images: pd.DataFrame) -> Drawn:
    """Draw each task's loss and weight over steps, and the predictions before and after training.

    Args:
        steps: ``step`` from 0 (before training), ``<task>_loss`` and ``<task>_weight``.
        images: ``dataset``, ``label`` (its rank in the dataset), ``before`` and ``after`` (predictions).
    """
    figure, axes = panels(["loss", "weight of the loss", "quality"], 4, 3.4, least=2.6)
    colors = palette().tasks
    for (task, color), style in zip(colors.items(), STYLES, strict=False):
        for ax, kind in zip(axes, ("loss", "weight"), strict=False):
            ax.plot(steps["step"], steps[f"{task}_{kind}"], color=color, linestyle=style, label=task)
    for ax in axes[:2]:
        ax.set_xlabel("steps taken")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[0].set_ylim(bottom=0)
    for mark, (name, rows) in zip(MARKERS, images.groupby("dataset", sort=False), strict=False):
        look: dict[str, Any] = {"marker": mark, "s": dot(30), "edgecolors": palette().ink}
        axes[2].scatter(rows["label"], rows["before"], facecolors="none", label=f"{name}, before", **look)
        axes[2].scatter(rows["label"], rows["after"], color=colors["quality"], label=f"{name}, after", **look)
    axes[2].set(xlabel="rank of the label in its dataset", ylabel="predicted quality")
    for ax in axes:
        plain(ax, "y")
    legend(figure)
    losses = steps[[f"{task}_loss" for task in colors]].set_axis(list(colors), axis=1)
    ends = f"start at {listed(losses.iloc[0])} and end at {listed(losses.iloc[-1])}"
    return figure.described(
        f"Lines over {steps['step'].max()} steps. Losses {ends}."
        " A scatter plot shows predicted quality over the rank of the label, before and after training."
    )


@drawing("prefix_tree", "from_scratch", "The prefix tree of six prompts, with the path of its last token.")
def prefix_tree(nodes: pd.DataFrame) -> Drawn:
    """Draw a prefix tree with the root at the top, and highlight the path to the last node.

    Args:
        nodes: a row for each node, parents first: ``parent`` (its row, -1 for the root), ``word``.
    """
    parents = nodes["parent"].to_numpy()
    depth, across = np.zeros(len(nodes), dtype=int), np.zeros(len(nodes))
    for node, parent in enumerate(parents[1:], 1):
        depth[node] = depth[parent] + 1
    leaves = [node for node in range(len(nodes)) if node not in parents]
    across[leaves] = range(len(leaves))
    for node in reversed(range(len(nodes))):
        if node not in leaves:
            across[node] = across[parents == node].mean()
    path = [len(nodes) - 1]
    while parents[path[-1]] >= 0:
        path.append(parents[path[-1]])
    forks = [node for node, count in enumerate(np.bincount(parents[1:])) if count > 1]
    figure, (ax,) = panels([""], 0.95 * len(leaves) + 0.6, 0.34 * (depth.max() + 1) + 0.3)
    _draw_tree(ax, nodes["word"], parents, np.column_stack([across, depth]), path)
    return figure.described(
        f"A tree of {len(nodes)} tokens in {depth.max() + 1} rows, root at the top, {len(leaves)} leaves. "
        f"It branches after: {', '.join(nodes['word'][forks])}. "
        f"The path to the last leaf is marked: {' '.join(nodes['word'][path[::-1]])}."
    )


def _draw_tree(
    ax: Axes, words: pd.Series, parents: np.ndarray, places: np.ndarray, path: Sequence[int]
) -> None:
    """Draw words in boxes at (across, depth), with edges from their parents; highlight `path`."""
    paint = palette()
    for node, (x, y) in enumerate(places):
        color, width = (paint.colors[1], 2.0) if node in path else (paint.grey, 1.0)
        if parents[node] >= 0:
            start = places[parents[node]]
            ax.plot([start[0], x], [start[1], y], color=color, linewidth=width, zorder=0)
        box = {"boxstyle": "round,pad=0.2", "facecolor": paint.ground, "edgecolor": color, "linewidth": width}
        ax.text(x, y, words[node], ha="center", va="center", fontsize="small", bbox=box)
    ax.set(xlim=(places[:, 0].min() - 0.5, places[:, 0].max() + 0.5), ylim=(places[:, 1].max() + 0.6, -0.6))
    ax.set_yticks(range(int(places[:, 1].max()) + 1))
    ax.set(xticks=[], ylabel="position in the prompt")
    ax.spines[["top", "right", "bottom"]].set_visible(False)
