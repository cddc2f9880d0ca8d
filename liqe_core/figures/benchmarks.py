"""What training costs: time and memory of a step, positions of the text, and what half precision loses."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from liqe_core.figures.saving import drawing
from liqe_core.figures.style import Drawn, legend, listed, name_rows, palette, panels, plain, room


@drawing("steps", "benchmarks", "Time and memory of training steps, and the arithmetic floor.")
def step_bars(table: pd.DataFrame) -> Drawn:
    """Time and memory of training steps, a bar a case; the black line is the arithmetic floor.

    Args:
        table: ``way, images, crops, gradient_checkpointing, best_seconds, floor_seconds, peak_gb``; rows
            without a time (no memory for it) are told, not drawn. ``precision`` and ``compile`` are named
            where they are there and not float32 and false.
    """
    names = [_case_name(row) for row in table.to_dict("records")]
    figure, (time, memory) = panels(["", ""], 5, 1.2 + 0.5 * len(table), sharey=True)
    measured = table.reindex(columns=["best_seconds", "floor_seconds", "peak_gb"]).apply(pd.to_numeric)
    colors = table["way"].map(_way_colors())
    for axes, column in ((time, "best_seconds"), (memory, "peak_gb")):
        bars = axes.barh(range(len(table)), measured[column].fillna(0), color=colors)
        texts = [" no memory for it" if pd.isna(value) else f" {value:.3g}" for value in measured[column]]
        axes.bar_label(bars, texts)
        plain(axes, "x")
        axes.margins(x=0.15)
    time.set_xlabel("seconds a step")
    memory.set_xlabel("peak memory, GB")
    places = np.arange(len(table))
    time.vlines(measured["floor_seconds"], places - 0.4, places + 0.4, colors=palette().ink)
    name_rows(time, names)
    seconds = listed(measured["best_seconds"].set_axis(names).dropna(), ".3g")
    return figure.described(
        "Bars: seconds and peak memory of a training step, and the arithmetic floor as a line. "
        f"Seconds: {seconds or 'none measured'}."
    )


def _case_name(case: Mapping) -> str:
    """What was measured, such as "tree, 48 x 3, checkpointed"."""
    words = [case["way"], f"{case['images']} x {case['crops']}", case.get("precision", "float32")]
    words += ["checkpointed"] * (case.get("gradient_checkpointing") is True)
    words += ["compiled"] * (case.get("compile") is True)
    return ", ".join(word for word in words if word != "float32")


@drawing("trie", "benchmarks", "Positions in the text tower against prompts.")
def trie_growth(table: pd.DataFrame) -> Drawn:
    """Positions that the text tower computes against prompts, both on logarithmic axes.

    Args:
        table: ``prompts, padded_tokens, packed_tokens, tree_nodes``.
    """
    figure, (axes,) = panels([""], 6, 4)
    ways = _way_colors()
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


@drawing("what_can_move", "half_precision", "Which weights half precision lets move.")
def what_can_move(sizes: pd.DataFrame, kinds: pd.DataFrame, whole: float, part: float) -> Drawn:
    """Left the weights by their size, coloured by the step that moves them; right the same a kind of weight.

    Args:
        sizes: from `half_precision.by_size`.
        kinds: from `half_precision.by_kind` of both steps, as ``stuck`` and ``stuck_at_part``.
        whole, part: the longer step and the shorter one.
    """
    paint = palette()
    looks = {
        "never": (paint.ink, f"stuck at {whole:.1e}"),
        "whole": (paint.colors[4], f"moves at {whole:.1e}, stuck at {part:.1e}"),
        "always": (paint.faint, f"moves at {part:.1e}"),
    }
    figure, (sizes_ax, kinds_ax) = panels(["", ""], 5.5, 4, width_ratios=[1.25, 1])
    for row in sizes.itertuples():
        moves = "never" if row.half_spacing > whole else "whole" if row.half_spacing > part else "always"
        sizes_ax.bar(row.exponent, row.share, width=0.9, color=looks[moves][0])
    step = 1 + int(len(sizes) * 0.5 // min(5.5, room()))  # a label takes so many inches
    labelled = sizes.iloc[::step]
    names = [f"2$^{{{row.exponent}}}$\n{row.half_spacing:.0e}" for row in labelled.itertuples()]
    sizes_ax.set_xticks(labelled["exponent"], names)
    sizes_ax.tick_params(axis="x", labelsize="x-small")
    sizes_ax.set(
        xlabel="size of a weight, from; below it, half the spacing there", ylabel="share of the weights"
    )
    never, start = kinds["stuck"], 0.0
    for (color, label), end in zip(looks.values(), (never, kinds["stuck_at_part"], 1.0), strict=True):
        kinds_ax.barh(kinds.index, end - start, left=start, color=color, label=label)
        start = end
    for name, share in never.items():
        kinds_ax.text(1.02, name, f"{share:.0%}", transform=kinds_ax.get_yaxis_transform(), va="center")
    kinds_ax.text(1.02, 1.02, "stuck", transform=kinds_ax.transAxes, va="bottom")
    kinds_ax.invert_yaxis()
    kinds_ax.set(xlim=(0, 1), xlabel="share of the weights")
    legend(figure)
    plain(sizes_ax, "y")
    plain(kinds_ax, "x")
    return figure.described(
        "Bars: weights by their size, and by their kind, coloured by whether a step can move them in half "
        f"precision. Stuck at {whole:.1e}: {listed(never, '.0%')}."
    )


def _way_colors() -> dict[str, str]:
    tasks = palette().tasks
    return {"padded": tasks["scene"], "tree": tasks["quality"]}
