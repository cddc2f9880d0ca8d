"""Shared parts of all figures: style sheets, colors, empty figures and plain axes.

The style of a figure is `liqe.mplstyle` in this folder, with `paper`, `page`, `talk` or `dark` stacked on it.
Drawing functions are decorated by `saving.drawing` and use the sheets of `drawn_as`, or those of a notebook.
Figures are made without pyplot, so that no figure stays open and importing this module selects no backend.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Literal, NamedTuple

import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib import colormaps, rcParams
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure

#: Colors from worst to best, suitable for color-blind readers and grayscale.
QUALITY_COLORS = colormaps["cividis"]
#: Line styles and markers that distinguish series in grayscale.
STYLES: tuple[Any, ...] = ("-", "--", "-.", ":")
MARKERS = ("o", "^", "s", "D", "v", "P")

_NATURAL = 10.0  # font size in points that the sizes in drawing functions assume
_sheets: ContextVar[tuple[str, ...]] = ContextVar("sheets", default=())


@contextmanager
def drawn_as(*sheets: str) -> Iterator[None]:
    """Draw and save figures in this block with these style sheets, stacked on the style of a notebook.

    Args:
        sheets: ``paper`` (3.3 inches, a column), ``page`` on top of it (6.9 inches), ``talk``; ``dark``.
            Default: the current sheets.

    Raises:
        OSError: a sheet does not exist.
    """
    token = _sheets.set(sheets or _sheets.get())
    files = [Path(__file__).with_name(f"{sheet}.mplstyle") for sheet in ("liqe", *_sheets.get())]
    try:
        with matplotlib.style.context(files):
            yield
    finally:
        _sheets.reset(token)


class Palette(NamedTuple):
    """The colors of the current style, as hexadecimal strings.

    Attributes:
        colors: for data; color-blind readers can distinguish them. ink: for text. grey: for secondary
            elements. faint: for grid lines. ground: the background.
    """

    colors: tuple[str, ...]
    ink: str
    grey: str
    faint: str
    ground: str

    @property
    def tasks(self) -> dict[str, str]:
        """The color of each task."""
        return {"quality": self.colors[0], "scene": self.colors[4], "distortion": self.colors[2]}

    @property
    def sequential(self) -> LinearSegmentedColormap:
        """A color map from low to high values."""
        return LinearSegmentedColormap.from_list("sequential", [self.ground, self.colors[0]])

    @property
    def diverging(self) -> LinearSegmentedColormap:
        """A color map from negative over zero to positive values."""
        return LinearSegmentedColormap.from_list("diverging", [self.colors[1], self.ground, self.colors[0]])


def palette() -> Palette:
    """Return the colors of the current style; call it inside a `drawing`."""
    now: Any = rcParams
    colors = tuple(now["axes.prop_cycle"].by_key()["color"])
    shades = ("text.color", "axes.edgecolor", "grid.color", "figure.facecolor")
    return Palette(colors, *(now[name] for name in shades))


def readable_on(color: Any) -> str:
    """Return black or white, whichever is readable on a background of this color."""
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(color))
    return "black" if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179 else "white"


def fixed_width() -> float | None:
    """Return the figure width in inches that the style sheets fix; None if they fix none."""
    width = float(rcParams["figure.figsize"][0])
    return None if rcParams["savefig.bbox"] == "tight" else width


def _letters() -> float:
    """Return the current font size relative to the one that sizes in drawing functions assume."""
    return float(rcParams["font.size"]) / _NATURAL


def room() -> float:
    """Return the largest width of a figure, in the inches of `new_figure`."""
    width = fixed_width()
    return float("inf") if width is None else width / _letters()


class Drawn(Figure):
    """A figure with an alternative text and the data that it was drawn from.

    Attributes:
        alt: one or two sentences: the type of the figure, its content, and the most important numbers.
        drawing: the `saving.Drawing` that it was drawn from.
    """

    alt = ""
    drawing: Any = None

    def described(self, alt: str) -> Drawn:
        """Set `alt` and return the figure; drawing functions end with ``return figure.described(...)``."""
        self.alt = " ".join(alt.split())
        return self

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> tuple[dict, dict]:
        """Return the alternative text as metadata of the inline image, where the site reads it."""
        return {}, {"image/png": {"alt": self.alt}}


def listed(values: Mapping[str, float] | pd.Series, form: str = ".2f", most: int = 12) -> str:
    """Format values for an alternative text, as in "cat 0.91, dog 0.12 and 3 more"."""
    entries = [f"{name} {value:{form}}".replace("\n", " ") for name, value in list(values.items())[:most]]
    return ", ".join(entries) + (f" and {len(values) - most} more" if len(values) > most else "")


def new_figure(width: float, height: float) -> Drawn:
    """Make an empty figure; width and height are in inches for a font size of 10 points.

    Other font sizes scale the figure. If the style sheets fix a width, the figure has that width.
    """
    size = (fixed_width() or width * _letters(), height * _letters())
    return Drawn(figsize=size, layout="constrained")


def panels(
    titles: Sequence[str],
    width: float,
    height: float,
    most: int = 4,
    least: float | None = None,
    rows: int = 1,
    **shared: Any,
) -> tuple[Drawn, Any]:
    """Make a figure with a column of axes for each title.

    Args:
        width, height: the size of a column, in inches.
        most: the largest number of columns side by side; fewer if the style has no space for columns of
            `least` inches (default: 0.72 of the width). Further columns are placed below.
        rows: the number of axes in a column; the title is above the first one.
        shared: ``sharex``, ``sharey`` of ``Figure.subplots``; ``width_ratios`` if all columns are side by
            side.

    Returns:
        The figure, and its axes: (titles,), or (titles, rows) if a column has several.
    """
    columns = max(1, int(min(most, len(titles), room() / (least or 0.72 * width))))
    if columns < len(titles):
        shared.pop("width_ratios", None)
    bands = -(-len(titles) // columns)
    figure = new_figure(width * columns, height * bands)
    axes = figure.subplots(rows * bands, columns, squeeze=False, **shared)
    axes = axes.reshape(bands, rows, columns).transpose(0, 2, 1).reshape(bands * columns, rows)
    for ax in axes[len(titles) :].ravel():
        ax.set_visible(False)
    axes = axes[: len(titles)]
    for ax, title in zip(axes[:, 0], titles, strict=True):
        ax.set_title(title)
    return figure, axes if rows > 1 else axes[:, 0]


def legend(figure: Figure) -> None:
    """Add a legend below all axes, with each label once, where it covers no curve."""
    entries: dict[str, Any] = {}
    for ax in figure.axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    if not entries:
        return
    wide = max(len(label) for label in entries) * 0.075 + 0.55  # width of an entry in inches
    available = figure.get_figwidth() / _letters()
    columns = max(1, min(len(entries), int(available / wide)))
    figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=columns)


def plain(ax: Axes, grid: Literal["x", "y", "both"] | None = None) -> None:
    """Remove the top and right spines, and add grid lines for ``x``, ``y`` or ``both``."""
    ax.spines[["top", "right"]].set_visible(False)
    if grid:
        ax.grid(axis=grid)


def name_rows(ax: Axes, names: Sequence) -> None:
    """Name the rows at 0, 1, 2 ... from the top, with half a row of room at both ends."""
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.5, -0.5)


def heat_map(
    ax: Axes,
    matrix: pd.DataFrame,
    write: Callable[[float], str],
    rotation: float = 0,
    size: str | None = None,
    **shades: Any,
) -> None:
    """Draw a matrix as a heat map with text in its cells.

    Args:
        write: formats the value of a cell.
        rotation: rotation of the column labels, in degrees. size: the font size of the cells.
        shades: ``cmap``, ``vmin``, ``vmax``, ``aspect`` of ``Axes.imshow``.
    """
    values = matrix.to_numpy(dtype=float)
    shown = ax.imshow(np.ma.masked_invalid(values), **shades)
    for (i, j), value in np.ndenumerate(values):
        color = palette().ink if np.isnan(value) else readable_on(shown.to_rgba(value))
        ax.text(j, i, write(value), ha="center", va="center", color=color, fontsize=size)
    turned: dict[str, Any] = {"rotation": rotation, "ha": "right", "rotation_mode": "anchor"}
    ax.set_xticks(range(matrix.shape[1]), matrix.columns, **turned if rotation else {})
    ax.set_yticks(range(len(matrix)), matrix.index)
    ax.tick_params(length=0)


def dot(size: float) -> float:
    """Scale the area of a marker, in square points, from a font size of 10 points to the current one."""
    return size * _letters() ** 2


def signed(value: float, digits: int = 2) -> str:
    """Format a number with a typographic minus sign."""
    return f"{round(value, digits) + 0:.{digits}f}".replace("-", "−")


def runs_and_mean(ax: Axes, table: pd.DataFrame, x: str, y: str, color: str, label: str, **more: Any) -> None:
    """Draw a thin line for each run if the table has a column ``run``, and a thick line for the mean."""
    whole = rcParams["lines.linewidth"]
    for _, run in table.groupby("run") if "run" in table else []:
        ax.plot(run[x], run[y], color=color, linewidth=0.5 * whole, alpha=0.5)
    mean = table.groupby(x)[y].mean()
    ax.plot(mean.index, mean, color=color, linewidth=1.3 * whole, label=label, **more)


def wrap_titles(figure: Figure) -> None:
    """Wrap titles and labels so that they do not exceed their axes."""
    figure.draw_without_rendering()  # places the axes
    for ax in figure.axes:
        if ax.get_label() == "<colorbar>":
            continue
        box = ax.get_position(original=True).transformed(ax.figure.transSubfigure)
        texts = ((ax.title, box.width), (ax.xaxis.label, box.width), (ax.yaxis.label, box.height))
        for text, pixels in texts:
            letters = max(8, int(pixels / figure.dpi * 72 / (0.56 * float(text.get_fontsize()))))
            text.set_text("\n".join(textwrap.fill(line, letters) for line in text.get_text().split("\n")))
