"""Figure of half precision, from the data frames of `studies.half_precision`."""

from __future__ import annotations

import pandas as pd

from liqe_core.figures.saving import drawing
from liqe_core.figures.style import Drawn, legend, listed, palette, panels, plain, room


@drawing("what_can_move", "half_precision", "Which weights can move in half precision.")
def what_can_move(sizes: pd.DataFrame, kinds: pd.DataFrame, whole: float, part: float) -> Drawn:
    """Draw weights by magnitude (left) and by kind (right), colored by the step that can move them.

    Args:
        sizes: from `half_precision.by_size`.
        kinds: from `half_precision.by_kind` for both steps, as ``stuck`` and ``stuck_at_part``.
        whole, part: the longer and the shorter step.
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
    step = 1 + int(len(sizes) * 0.5 // min(5.5, room()))  # a label is half an inch wide
    labelled = sizes.iloc[::step]
    names = [f"2$^{{{row.exponent}}}$\n{row.half_spacing:.0e}" for row in labelled.itertuples()]
    sizes_ax.set_xticks(labelled["exponent"], names)
    sizes_ax.tick_params(axis="x", labelsize="x-small")
    sizes_ax.set(
        xlabel="magnitude of a weight; below it, half the spacing there", ylabel="share of the weights"
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
        "Bars: weights by magnitude and by kind, colored by whether a step can move them in half "
        f"precision. Stuck at {whole:.1e}: {listed(never, '.0%')}."
    )
