"""Figures of `90_benchmarks`, from data frames."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure

from liqe_core.figures.style import drawing, legend, listed, new_figure, palette, panels, plain


@drawing
def step_bars(table: pd.DataFrame) -> Figure:
    """Time and memory of training steps, a bar a case; the black line is the arithmetic floor.

    Args:
        table: ``way, pictures, crops, gradient_checkpointing, best_seconds, floor_seconds, peak_gb``; rows
            without a time (no memory for it) are told, not drawn. ``precision`` and ``compile`` are named
            where they are there and not float32 and false.
    """
    names = [_case_name(row) for row in table.to_dict("records")]
    figure, (time, memory) = panels(["", ""], 5, 1.2 + 0.5 * len(table), sharey=True)
    ink, ways = palette().ink, _way_colors()
    colors = [ways[way] for way in table["way"]]
    for axes, column, label in (
        (time, "best_seconds", "seconds a step"),
        (memory, "peak_gb", "peak memory, GB"),
    ):
        values = pd.to_numeric(table.get(column, pd.Series(index=table.index, dtype=float)))
        axes.barh(range(len(table)), values.fillna(0), color=colors)
        for place, value in enumerate(values):
            text = " no memory for it" if pd.isna(value) else f" {value:.3g}"
            axes.text(0 if pd.isna(value) else value, place, text, va="center")
        axes.set(xlabel=label)
        plain(axes, "x")
        axes.margins(x=0.15)
    floors = pd.to_numeric(table.get("floor_seconds", pd.Series(index=table.index, dtype=float)))
    time.vlines(
        floors, [p - 0.4 for p in range(len(table))], [p + 0.4 for p in range(len(table))], colors=ink
    )
    time.set_yticks(range(len(table)), names)
    time.invert_yaxis()
    seconds = pd.to_numeric(table.get("best_seconds", pd.Series(index=table.index, dtype=float)))
    told = listed(pd.Series(seconds.to_numpy(), names).dropna(), ".3g")
    return figure.described(
        "Bars: seconds and peak memory of a training step, and the arithmetic floor as a line. "
        f"Seconds: {told or 'none measured'}."
    )


def _case_name(case: Mapping) -> str:
    """What was measured, such as "tree, 48 x 3, checkpointed"."""
    words = [case["way"], f"{case['pictures']} x {case['crops']}"]
    if case.get("precision", "float32") != "float32":
        words.append(case["precision"])
    for setting, word in (("gradient_checkpointing", "checkpointed"), ("compile", "compiled")):
        if case.get(setting) is True:
            words.append(word)
    return ", ".join(words)


@drawing
def trie_growth(table: pd.DataFrame) -> Figure:
    """Positions that the text tower computes against prompts, both on logarithmic axes.

    Args:
        table: ``prompts, padded_tokens, packed_tokens, tree_nodes``.
    """
    figure, ways = new_figure(6, 4), _way_colors()
    axes = figure.subplots()
    for column, label, color, marker in (
        ("padded_tokens", "padded to the context", ways["padded"], "o"),
        ("packed_tokens", "prefix tree, packed", ways["tree"], "s"),
        ("tree_nodes", "distinct prefixes", palette().ink, "."),
    ):
        axes.loglog(table["prompts"], table[column], color=color, marker=marker, label=label)
    axes.set(xlabel="prompts", ylabel="positions in the text tower")
    plain(axes, "both")
    legend(figure)
    last = table.iloc[-1]
    return figure.described(
        "Lines on logarithmic axes: positions that the text tower computes against the number of prompts. "
        f"At {last['prompts']:,} prompts {last['padded_tokens']:,} padded, {last['packed_tokens']:,} as a "
        f"packed prefix tree, {last['tree_nodes']:,} distinct prefixes."
    )


def _way_colors() -> dict[str, str]:
    tasks = palette().tasks
    return {"padded": tasks["scene"], "tree": tasks["quality"]}
