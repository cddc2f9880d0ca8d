"""What all figures share: colours, an empty figure, plain axes, and how a figure is kept.

Figures are made outside pyplot: nothing is left open, and no backend is chosen for whoever imports this. The
caller saves one with `save`, or shows it as the value of a notebook's cell.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from liqe_core.files import atomic_path, write_csv

#: From worst to best; readable without colour vision and in grey.
QUALITY_COLORS = colormaps["cividis"]
#: Okabe and Ito's colours, told apart by colour-blind readers too; line styles tell them apart in grey.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLES = ("-", "--", "-.", ":")
#: One of them a task.
TASK_COLORS = {"quality": COLORS[0], "scene": COLORS[4], "distortion": COLORS[2]}
INK, GREY, FAINT = "#333333", "#666666", "#DDDDDD"


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


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, in inches."""
    return Figure(figsize=(width, height), layout="constrained")


def plain(ax: Axes, grid: str = "") -> None:
    """No frame but the axes themselves, and faint lines behind across ``x``, ``y`` or ``both``."""
    ax.spines[["top", "right"]].set_visible(False)
    if grid:
        ax.set_axisbelow(True)
        ax.grid(axis=grid, color=FAINT, linewidth=0.6)


def signed(value: float, digits: int = 2) -> str:
    """A number with a minus sign that is as wide as a plus."""
    return f"{value:.{digits}f}".replace("-", "−")
