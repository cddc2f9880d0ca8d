"""What all figures share: colours, an empty figure, plain axes, and how a figure is kept.

Figures are made outside pyplot: nothing is left open, and no backend is chosen for whoever imports this. The
caller saves one with `save`, or shows it as the value of a notebook's cell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from liqe_core.files import atomic_path, write_csv

#: From worst to best; readable without colour vision and in grey.
QUALITY_COLORS = colormaps["cividis"]
#: Okabe and Ito's colours, told apart by colour-blind readers too; line styles tell them apart in grey.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLES: tuple[Any, ...] = ("-", "--", "-.", ":")
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


class Drawn(Figure):
    """A figure that says in words what is on it, to people who do not see it.

    Attributes:
        alt: one or two sentences: the kind of figure, what it shows, and what stands out.
    """

    alt = ""

    def described(self, alt: str) -> Drawn:
        """This figure, with `alt` set: ``return figure.described(...)`` ends every function that draws."""
        self.alt = " ".join(alt.split())
        return self

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> tuple[dict, dict]:
        """The alternative text, beside the picture that ``%matplotlib inline`` makes; pages read it there."""
        return {}, {"image/png": {"alt": self.alt}}


def new_figure(width: float, height: float) -> Drawn:
    """An empty figure, in inches."""
    return Drawn(figsize=(width, height), layout="constrained")


def listed(values: Mapping[str, float] | pd.Series, form: str = ".2f", most: int = 12) -> str:
    """ "cat 0.91, dog 0.12 and 3 more", for the words beside a figure."""
    told = [f"{name} {value:{form}}".replace("\n", " ") for name, value in list(values.items())[:most]]
    return ", ".join(told) + (f" and {len(values) - most} more" if len(values) > most else "")


def plain(ax: Axes, grid: Literal["x", "y", "both"] | None = None) -> None:
    """No frame but the axes themselves, and faint lines behind across ``x``, ``y`` or ``both``."""
    ax.spines[["top", "right"]].set_visible(False)
    if grid:
        ax.set_axisbelow(True)
        ax.grid(axis=grid, color=FAINT, linewidth=0.6)


def signed(value: float, digits: int = 2) -> str:
    """A number with a minus sign that is as wide as a plus."""
    return f"{value:.{digits}f}".replace("-", "−")


def panels(names: Sequence[str], width: float, height: float, most: int = 4) -> tuple[Drawn, list[Axes]]:
    """A figure with an axes for each name, so many of these inches, and at most so many in a row."""
    columns, rows = min(most, len(names)), -(-len(names) // most)
    figure = new_figure(width * columns, height * rows)
    axes = list(figure.subplots(rows, columns, squeeze=False).ravel())
    for ax, name in zip(axes, names, strict=False):
        ax.set_title(name)
    for ax in axes[len(names) :]:
        ax.set_visible(False)
    return figure, axes[: len(names)]


def runs_and_mean(ax: Axes, table: pd.DataFrame, x: str, y: str, color: str, label: str, **more: Any) -> None:
    """A thin line a run, where the table has a column ``run``, and a thick one for their mean."""
    for _, run in table.groupby("run") if "run" in table else []:
        ax.plot(run[x], run[y], color=color, linewidth=0.7, alpha=0.5)
    mean = table.groupby(x)[y].mean()
    ax.plot(mean.index, mean, color=color, linewidth=2, label=label, **more)
