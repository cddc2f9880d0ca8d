"""What models reach: the open benchmark's arms and answers, and the paper's tables with ours beside."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.patches import Rectangle

from liqe_core.figures import style
from liqe_core.figures.saving import drawing
from liqe_core.figures.style import Drawn, dot, listed, name_rows, palette, panels, plain, readable_on


@drawing("right_and_wrong", "quickstart", "How often liqe-tiny names each distortion of photographs rightly.")
@drawing("tiny_distortions", "open_benchmark", "How often liqe-tiny names each distortion rightly.")
def right_and_wrong(table: pd.DataFrame) -> Drawn:
    """How often each distortion's images are called by it, and by which other words, a bar a distortion; a
    line where always naming the commonest would be, of all images.

    Args:
        table: a row an image: ``true_distortion``, without which it is left out, and the predicted
            ``distortion``.
    """
    true = table["true_distortion"].dropna()
    predicted = table.loc[true.index, "distortion"]
    words = (predicted == true).groupby(true).mean().sort_values().index
    figure, (ax,) = panels([""], 7, 0.8 + 0.36 * len(words))
    paint = palette()
    for row, word in enumerate(words):
        of_word = predicted[true == word]
        share = (of_word == word).mean()
        ax.barh(row, share, color=paint.tasks["distortion"])
        ax.barh(row, 1 - share, left=share, color=paint.faint)
        wrong_word_counts = of_word[of_word != word].value_counts()
        note = (
            f"rather: {wrong_word_counts.index[0]} ({wrong_word_counts.iloc[0]})"
            if len(wrong_word_counts)
            else ""
        )
        ax.text(0.99, row, note, ha="right", va="center", fontsize="x-small", color=paint.ink)
    ax.set_yticks(range(len(words)), [f"{word} ({(true == word).sum()})" for word in words])
    most = true.value_counts(normalize=True)
    ax.axvline(most.iloc[0], color=paint.grey, linestyle=":")
    overall = f"{(predicted == true).mean():.0%} of all; "
    overall += f"always {most.index[0]!r}: {most.iloc[0]:.0%} (dotted)"
    ax.set(xlim=(0, 1), xlabel=f"share called by the right name, {overall}")
    plain(ax, "x")
    shares = (predicted == true).groupby(true).mean().loc[words[::-1]]
    return figure.described(
        f"Bars: how often each distortion is called by its name, {overall}: {listed(shares, '.0%')}."
    )


@drawing("hundred", "quickstart", "What a hundred compressed images were called, and their quality.")
def beside_the_others(table: pd.DataFrame, word: str, quality: float) -> Drawn:
    """The answers about many images with one distortion: what they were called, and the quality they got.

    Args:
        table: a row an image: ``quality``, ``distortion``.
        word: the right name. quality: of the image that is shown beside, marked.
    """
    figure, (names_ax, quality_ax) = panels(["called", "quality"], 3.5, 3, least=3)
    paint = palette()
    counts = table["distortion"].value_counts()
    colors = [paint.tasks["distortion"] if name == word else paint.faint for name in counts.index]
    names_ax.barh(counts.index, counts, color=colors)
    names_ax.invert_yaxis()
    names_ax.set_xlabel(f"of {len(table)} photographs")
    quality_ax.hist(table["quality"], bins=list(np.arange(1, 5.01, 0.25)), color=paint.tasks["quality"])
    quality_ax.axvline(quality, color=paint.ink, linestyle="--", linewidth=1.2)
    quality_ax.set(xlabel="predicted quality", ylabel="photographs")
    for ax in (names_ax, quality_ax):
        plain(ax, "x")
    return figure.described(
        f"Left, bars of what {len(table)} images with {word} were called: {listed(counts, 'd')}. Right, a "
        f"histogram of their predicted quality, mean {table['quality'].mean():.2f}; the image beside has "
        f"{quality:.2f}."
    )


@drawing("arms", "open_benchmark", "Every run of the open benchmark's arms, and their means.")
def arms(runs: pd.DataFrame, order: Sequence[str], measure: str = "srcc", title: str = "") -> Drawn:
    """A measure of every run, a row an arm: a dot a seed, a bar at their mean.

    Args:
        runs: a row a run: ``arm``, ``seed`` and the measure.
        order: the arms, from the top.
    """
    figure, (ax,) = panels([title], 7, 0.9 + 0.38 * len(order))
    paint = palette()
    for row, arm in enumerate(order):
        values = runs.loc[runs["arm"] == arm, measure].dropna()
        ax.scatter(values, np.full(len(values), row), s=dot(22), color=paint.colors[0], alpha=0.7, zorder=3)
        if len(values):
            ax.plot([values.mean()] * 2, [row - 0.3, row + 0.3], color=paint.ink, linewidth=2)
    name_rows(ax, order)
    ax.set_xlabel(measure.upper().replace("_", " "))
    plain(ax, "both")
    means = runs.groupby("arm")[measure].mean().reindex(order).dropna()
    return figure.described(
        f"Dot plot: {title}, {measure.upper().replace('_', ' ')} of every seed, a row an arm. "
        f"Means: {listed(means, '.3f')}."
    )


@drawing("differences", "open_benchmark", "Each arm less the reference, with its interval.")
@drawing("open_differences", "ablations", "What each arm of the open benchmark has more than quality alone.")
def differences(table: pd.DataFrame, title: str = "") -> Drawn:
    """Differences and their intervals, a row each, with a line at none.

    Args:
        table: ``arm``, ``difference``, ``low``, ``high``.
    """
    figure = _intervals(table, "difference", "arm", "difference in SRCC, with its interval", title)
    figure.axes[0].axvline(0, color=palette().grey)
    return figure


@drawing("levels", "open_benchmark", "What the arms and simple methods reach, with intervals.")
def levels(table: pd.DataFrame, title: str = "") -> Drawn:
    """Values and their intervals, a row each, the highest first.

    Args:
        table: ``method``, ``srcc``, ``low``, ``high``.
    """
    table = table.sort_values("srcc", ascending=False)
    return _intervals(table, "srcc", "method", "SRCC with people, with its interval", title)


def _intervals(table: pd.DataFrame, value: str, name: str, label: str, title: str) -> Drawn:
    rows = np.arange(len(table))
    figure, (ax,) = panels([title], 7, 0.9 + 0.38 * len(table))
    color = palette().colors[0]
    ax.hlines(rows, table["low"], table["high"], color=color, linewidth=2)
    ax.scatter(table[value], rows, s=dot(36), color=color, zorder=3)
    name_rows(ax, list(table[name]))
    ax.set_xlabel(label)
    plain(ax, "both")
    return figure.described(
        f"Dots with intervals: {title}, {label}. {listed(table.set_index(name)[value], '.3f')}."
    )


@drawing("within_set", "paper_tables", "The paper's table of its six sets, with ours beside.")
@drawing("within_set_rest", "paper_tables", "Numbers of other methods that are known at third hand.")
@drawing("unseen", "paper_tables", "The paper's table of sets never trained on, with ours beside.")
@drawing("unseen_aigc", "paper_tables", "The same for generated images.")
def shaded_table(text: pd.DataFrame, distance: pd.DataFrame, title: str = "", limit: float = 0.05) -> Drawn:
    """A table as a figure, a cell shaded by how far ours lies from the published number.

    Args:
        text: what each cell says. distance: ours less published, the same shape; NaN is not shaded.
        limit: the distance of the darkest shade.
    """
    # As many columns as there is room for, and the rest below; a data set's measures stay together.
    names, width = max(len(line) for row in text.index for line in str(row).split("\n")), 0.86
    beside = 0.3 + 0.075 * names
    shaded = bool(distance.notna().any(axis=None))
    fit = max(1, int(min(text.shape[1], (style.room() - beside - 0.6 * shaded) / 0.6)))
    of_datasets = itertools.groupby(text.columns, lambda name: name.split("\n")[0])
    blocks = _blocks([len(list(columns)) for _, columns in of_datasets], fit)
    lines = [max(str(cell).count("\n") + 1 for cell in row) for row in text.to_numpy()]
    heights = [
        0.12 + 0.17 * max(count, str(row).count("\n") + 1)
        for row, count in zip(text.index, lines, strict=True)
    ]
    top, most = [0.0, *itertools.accumulate(heights)], max(len(block) for block in blocks)  # inches
    figure, paint = style.new_figure(beside + width * most, (0.9 + top[-1]) * len(blocks)), palette()
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
        color_mapping = ScalarMappable(scale, shades)
        figure.colorbar(color_mapping, ax=list(axes), label="ours less published", fraction=0.03, pad=0.01)
    rows, heads = ("; ".join(map(str, names)) for names in (text.index, text.columns))
    compared = "no number of ours to compare with"
    if shaded:
        ours = distance.stack()
        compared = f"ours less published lies between {ours.min():+.3f} and {ours.max():+.3f}"
    return figure.described(f"A table: {title}; {compared}. Rows: {rows}. Columns: {heads}.")


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
