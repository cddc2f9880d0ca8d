"""The figures, from data frames and arrays; none of them knows what made the numbers.

Each function returns a matplotlib Figure; `save` writes it as PNG and SVG, with the numbers in it as CSV.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from liqe_core.files import atomic_path, write_csv

#: From worst to best; readable without colour vision and in grey.
QUALITY_COLORS = colormaps["cividis"]
#: Okabe and Ito's colours, one a task.
TASK_COLORS = {"quality": "#0072B2", "scene": "#E69F00", "distortion": "#009E73"}
INK, FAINT = "#333333", "#DDDDDD"


def save(figure: Figure, folder: str | Path, name: str, data: pd.DataFrame | None = None) -> list[Path]:
    """Write ``name.png`` (150 dots an inch), ``name.svg`` and, with data, ``name.csv``; return the paths."""
    paths = [Path(folder) / f"{name}.{suffix}" for suffix in ("png", "svg")]
    for path in paths:
        with atomic_path(path) as part:
            # No date in the file: the same figure is the same bytes.
            metadata = {"Date": None} if path.suffix == ".svg" else None
            figure.savefig(part, dpi=150, bbox_inches="tight", metadata=metadata)
    if data is not None:
        paths.append(Path(folder) / f"{name}.csv")
        write_csv(paths[-1], data)
    return paths


def answer(image: np.ndarray, answers: Mapping[str, pd.Series], quality: float) -> Figure:
    """One picture and the marginal probability of each quality, scene and distortion.

    Args:
        image: (H, W, 3).
        answers: axis name to probabilities, indexed by word.
        quality: the expected quality, marked among the quality words (1 is the first).
    """
    figure = _figure(11, 4.2)
    axes = figure.subplots(1, 1 + len(answers), width_ratios=[1.7] + [1] * len(answers))
    axes[0].imshow(image)
    axes[0].set_axis_off()
    for ax, (axis, p) in zip(axes[1:], answers.items(), strict=True):
        ax.barh(range(len(p)), p, color=TASK_COLORS[axis])
        ax.set_yticks(range(len(p)), p.index)
        ax.invert_yaxis()
        ax.set(title=axis, xlim=(0, 1), xlabel="probability")
        _plain(ax, "x")
        if axis == "quality":
            ax.axhline(quality - 1, color=INK, linewidth=1.2, linestyle="--")
            ax.text(0.98, quality - 1.06, f"expected {quality:.2f}", ha="right", va="bottom", color=INK)
    return figure


def joint(
    p: np.ndarray, qualities: Sequence[str], scenes: Sequence[str], distortions: Sequence[str]
) -> Figure:
    """The joint probability as heat maps, one a quality word; all on one scale.

    Args:
        p: (Q, S, D), summing to 1.
    """
    figure = _figure(2.6 * len(qualities) + 1, 4.4)
    axes = np.atleast_1d(figure.subplots(1, len(qualities), sharey=True))
    for ax, word, part in zip(axes, qualities, p, strict=True):
        shown = ax.imshow(part.T, cmap="magma_r", vmin=0, vmax=p.max(), aspect="auto")
        ax.set_xticks(range(len(scenes)), scenes, rotation=60, ha="right", rotation_mode="anchor")
        ax.set_yticks(range(len(distortions)), distortions)
        ax.set_title(f"{word}  (p = {part.sum():.2f})")
        ax.tick_params(length=0)
    figure.colorbar(shown, ax=list(axes), label="joint probability", fraction=0.02, pad=0.01)
    return figure


def crop_by_crop(image: np.ndarray, windows: np.ndarray, window: int, qualities: np.ndarray) -> Figure:
    """Where the crops of a picture lie, and the quality of each by itself.

    Args:
        image: (H, W, 3), as the windows were laid over it.
        windows: (U, 2) of (y, x).
        window: side in pixels.
        qualities: (U,) expected quality.
    """
    figure = _figure(11, 4.6)
    left, right = figure.subplots(1, 2, width_ratios=[1.6, 1])
    left.imshow(image)
    left.set_axis_off()
    low, high = float(qualities.min()), float(qualities.max())
    colors = QUALITY_COLORS((qualities - low) / max(high - low, 1e-9))
    for number, ((y, x), color) in enumerate(zip(windows, colors, strict=True), 1):
        left.add_patch(Rectangle((x, y), window, window, fill=False, edgecolor="white", linewidth=3))
        left.add_patch(Rectangle((x, y), window, window, fill=False, edgecolor=color, linewidth=1.8))
        left.text(x + 4, y + 4, str(number), color="white", fontsize=8, va="top", backgroundcolor="#00000080")
    numbers = np.arange(1, len(qualities) + 1)
    right.vlines(numbers, qualities.mean(), qualities, color=FAINT)
    right.axhline(qualities.mean(), color=INK, linewidth=1.2, linestyle="--", label="mean of the crops")
    right.scatter(numbers, qualities, color=colors, edgecolor=INK, linewidth=0.5, zorder=3)
    right.set(xlabel="crop", ylabel="quality of the crop by itself", xticks=numbers)
    right.legend(frameon=False)
    _plain(right, "y")
    return figure


def training_curves(epochs: pd.DataFrame) -> Figure:
    """Task losses, their weights and the validation measures, over epochs.

    Args:
        epochs: ``epoch``, ``<task>_loss``, ``<task>_weight`` and the measures, a row an epoch; with a column
            ``run`` a thin line a run and a thick one for their mean.
    """
    tasks = [task for task in TASK_COLORS if f"{task}_loss" in epochs]
    measures = {
        "srcc": ("SRCC", "quality"),
        "scene_accuracy": ("scene accuracy", "scene"),
        "distortion_accuracy": ("distortion accuracy", "distortion"),
    }
    panels = {
        "training loss": {f"{t}_loss": (t, t) for t in tasks},
        "weight of the loss": {f"{t}_weight": (t, t) for t in tasks},
        "validation": {m: label for m, label in measures.items() if m in epochs},
    }
    figure = _figure(12, 3.6)
    for ax, (title, lines) in zip(figure.subplots(1, 3), panels.items(), strict=True):
        for column, (label, task) in lines.items():
            by_epoch = epochs.dropna(subset=[column])
            for _, run in by_epoch.groupby("run") if "run" in epochs else []:
                ax.plot(run["epoch"] + 1, run[column], color=TASK_COLORS[task], linewidth=0.7, alpha=0.5)
            mean = by_epoch.groupby("epoch")[column].mean()
            ax.plot(mean.index + 1, mean, color=TASK_COLORS[task], linewidth=2, label=label)
        ax.set(title=title, xlabel="epoch")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.legend(frameon=False)
        _plain(ax, "y")
    return figure


def agreement(table: pd.DataFrame, title: str = "") -> Figure:
    """Predicted quality against human score, a dot a picture, a colour a distortion.

    Args:
        table: ``quality``, ``mos`` and, for colours, ``distortion_group``.
    """
    figure = _figure(6.5, 4.6)
    ax = figure.subplots()
    groups = table.groupby("distortion_group") if "distortion_group" in table else [("", table)]
    for number, (name, rows) in enumerate(groups):
        color = colormaps["tab20"](number)
        ax.scatter(rows["quality"], rows["mos"], s=12, alpha=0.7, color=color, label=name)
    ax.set(xlabel="predicted quality", ylabel="human score", title=title)
    if "distortion_group" in table:
        ax.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    _plain(ax, "both")
    return figure


def confusion(matrix: pd.DataFrame, title: str = "") -> Figure:
    """A confusion matrix, the shares of each row (label) written into it.

    Args:
        matrix: counts, labels as rows and predictions as columns.
    """
    shares = matrix.div(matrix.sum(axis=1).clip(lower=1), axis=0).to_numpy()
    figure = _figure(1.6 + 0.62 * matrix.shape[1], 1.4 + 0.48 * matrix.shape[0])
    ax = figure.subplots()
    ax.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for i, j in np.argwhere(matrix.to_numpy() > 0):
        color = "white" if shares[i, j] > 0.6 else INK
        ax.text(j, i, f"{shares[i, j]:.2f}".lstrip("0"), ha="center", va="center", color=color, fontsize=8)
    ax.set_xticks(range(matrix.shape[1]), matrix.columns, rotation=45, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(matrix.shape[0]), matrix.index)
    ax.set(xlabel="predicted", ylabel="label", title=title)
    ax.tick_params(length=0)
    return figure


def score_histograms(table: pd.DataFrame) -> Figure:
    """Human scores of every data set, side by side, each on its own scale.

    Args:
        table: ``dataset``, ``mos``.
    """
    sets = list(dict.fromkeys(table["dataset"]))
    figure = _figure(2.9 * min(4, len(sets)), 2.5 * -(-len(sets) // 4))
    axes = figure.subplots(-(-len(sets) // 4), min(4, len(sets)), squeeze=False).ravel()
    for ax, name in zip(axes, sets, strict=False):
        ax.hist(table.loc[table["dataset"] == name, "mos"], bins=30, color=TASK_COLORS["quality"])
        ax.set(title=name, xlabel="score")
        _plain(ax, "y")
    for ax in axes[len(sets) :]:
        ax.set_visible(False)
    return figure


def label_counts(table: pd.DataFrame) -> Figure:
    """How many pictures show each scene and each distortion; data sets stacked.

    Args:
        table: ``dataset``, ``scenes`` (tuples), ``distortion_group``.
    """
    figure = _figure(11, 3.8)
    columns = {"scene": "scenes", "distortion": "distortion_group"}
    exploded = table.explode("scenes", ignore_index=True)
    for ax, (title, column) in zip(figure.subplots(1, 2), columns.items(), strict=True):
        of = exploded if title == "scene" else table
        counts = pd.crosstab(of[column], of["dataset"])
        counts = counts.loc[counts.sum(axis=1).sort_values(ascending=False).index]
        left = np.zeros(len(counts))
        for number, name in enumerate(counts.columns):
            ax.barh(range(len(counts)), counts[name], left=left, color=colormaps["tab10"](number), label=name)
            left += counts[name].to_numpy()
        ax.set_yticks(range(len(counts)), counts.index)
        ax.invert_yaxis()
        ax.set(title=title, xlabel="pictures")
        _plain(ax, "x")
        if counts.shape[1] > 1:
            ax.legend(frameon=False, fontsize=8)
    return figure


def contact_sheet(pictures: Sequence[np.ndarray], captions: Sequence[str], columns: int = 6) -> Figure:
    """Small pictures in reading order, a caption above each."""
    rows = -(-len(pictures) // columns)
    figure = _figure(2 * columns, 1.75 * rows)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax in axes:
        ax.set_axis_off()
    for ax, picture, caption in zip(axes, pictures, captions, strict=False):
        ax.imshow(picture)
        ax.set_title(caption, fontsize=8)
    return figure


def session_sizes(table: pd.DataFrame) -> Figure:
    """How many pictures each session trains on, validates on and tests on; a panel a data set.

    Args:
        table: ``dataset`` and ``session_1`` .. ``session_10``.
    """
    sets = list(dict.fromkeys(table["dataset"]))
    figure = _figure(2.9 * min(4, len(sets)) + 0.8, 2.4 * -(-len(sets) // 4))
    axes = figure.subplots(-(-len(sets) // 4), min(4, len(sets)), squeeze=False).ravel()
    colors = {"train": "#56B4E9", "val": "#F0E442", "test": "#D55E00"}
    sessions = [c for c in table if c.startswith("session_")]
    for ax, name in zip(axes, sets, strict=False):
        bottom = np.zeros(len(sessions))
        for part, color in colors.items():
            counts = (table.loc[table["dataset"] == name, sessions] == part).sum().to_numpy()
            ax.bar(range(1, len(sessions) + 1), counts, bottom=bottom, color=color, label=part)
            bottom += counts
        ax.set(title=name, xlabel="session", xticks=range(1, len(sessions) + 1))
        _plain(ax, "y")
    for ax in axes[len(sets) :]:
        ax.set_visible(False)
    axes[0].legend(frameon=False, fontsize=8, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.1))
    return figure


def _figure(width: float, height: float) -> Figure:
    # Not through pyplot: nothing is left open, and no backend is chosen for whoever imports this.
    return Figure(figsize=(width, height), layout="constrained")


def _plain(ax: Axes, grid: str) -> None:
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_axisbelow(True)
    ax.grid(axis=grid, color=FAINT, linewidth=0.6)
