"""Which weights half precision lets move, from the data frames of `studies.half_precision`."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from liqe_core.figures.style import drawing, legend, listed, palette, panels, plain, room


@drawing
def what_can_move(sizes: pd.DataFrame, kinds: pd.DataFrame, whole: float, part: float) -> Figure:
    """Left the weights by their size, coloured by the step that moves them; right the same a kind of weight.

    Args:
        sizes: from `half_precision.by_size`. kinds: from `half_precision.by_kind` of both steps.
        whole, part: the longer step and the shorter one.
    """
    paint = palette()
    looks = {
        "never": (paint.ink, f"stuck at {whole:.1e}"),
        "whole": (paint.colors[4], f"moves at {whole:.1e}, stuck at {part:.1e}"),
        "always": (paint.faint, f"moves at {part:.1e}"),
    }
    figure, (left, right) = panels(["", ""], 5.5, 4, ratios=[1.25, 1])
    for row in sizes.itertuples():
        moves = "never" if row.half_spacing > whole else "whole" if row.half_spacing > part else "always"
        left.bar(row.exponent, row.share, width=0.9, color=looks[moves][0])
    step = 1 + int(len(sizes) * 0.5 // min(5.5, room()))  # a label takes so many inches
    told = sizes.iloc[::step]
    names = [f"2$^{{{e}}}$\n{s:.0e}" for e, s in zip(told["exponent"], told["half_spacing"], strict=True)]
    left.set_xticks(told["exponent"], names)
    left.tick_params(axis="x", labelsize="x-small")
    left.set(xlabel="size of a weight, from; below it, half the spacing there", ylabel="share of the weights")
    names, never, whole_only = list(kinds.index), kinds[whole], kinds[part] - kinds[whole]
    right.barh(names, never, color=looks["never"][0], label=looks["never"][1])
    right.barh(names, whole_only, left=never, color=looks["whole"][0], label=looks["whole"][1])
    right.barh(names, 1 - kinds[part], left=kinds[part], color=looks["always"][0], label=looks["always"][1])
    for name, share in never.items():
        right.text(1.02, name, f"{share:.0%}", transform=right.get_yaxis_transform(), va="center")
    right.text(1.02, 1.02, "stuck", transform=right.transAxes, va="bottom")
    right.invert_yaxis()
    right.set(xlim=(0, 1), xlabel="share of the weights")
    legend(figure)
    plain(left, "y")
    plain(right, "x")
    return figure.described(
        "Bars: weights by their size, and by their kind, coloured by whether a step can move them in half "
        f"precision. Stuck at {whole:.1e}: {listed(never, '.0%')}."
    )
