"""What all figures share: style sheets, colours, empty figures and plain axes.

How a figure looks is `liqe.mplstyle` beside this file, with `paper`, `page`, `talk` or `dark` stacked on it.
A function that draws is a `saving.drawing`: it draws under the sheets of `drawn_as`, or those of a notebook.
Figures are made outside pyplot: nothing is left open, and no backend is chosen for whoever imports this.
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

#: From worst to best; readable without colour vision and in grey.
QUALITY_COLORS = colormaps["cividis"]
#: Line styles and markers tell apart in grey what colours tell apart otherwise.
STYLES: tuple[Any, ...] = ("-", "--", "-.", ":")
MARKERS = ("o", "^", "s", "D", "v", "P")

_NATURAL = 10.0  # points: sizes in drawing functions are inches of a figure with such letters
_sheets: ContextVar[tuple[str, ...]] = ContextVar("sheets", default=())


@contextmanager
def drawn_as(*sheets: str) -> Iterator[None]:
    """Figures that are drawn and saved in the block have these style sheets, stacked on that of a notebook.

    Args:
        sheets: ``paper`` (3.3 inches, a column), ``page`` on top of it (6.9 inches), ``talk``; ``dark``.
            None: those that hold already.

    Raises:
        OSError: there is no such sheet.
    """
    token = _sheets.set(sheets or _sheets.get())
    files = [Path(__file__).with_name(f"{sheet}.mplstyle") for sheet in ("liqe", *_sheets.get())]
    try:
        with matplotlib.style.context(files):
            yield
    finally:
        _sheets.reset(token)


class Palette(NamedTuple):
    """The colours of the look that holds, as hexadecimal text.

    Attributes:
        colors: told apart by colour-blind readers too. ink: of letters. grey: of what matters less. faint: of
            lines behind. ground: of the paper.
    """

    colors: tuple[str, ...]
    ink: str
    grey: str
    faint: str
    ground: str

    @property
    def tasks(self) -> dict[str, str]:
        """A colour a task."""
        return {"quality": self.colors[0], "scene": self.colors[4], "distortion": self.colors[2]}

    @property
    def sequential(self) -> LinearSegmentedColormap:
        """From nothing to much."""
        return LinearSegmentedColormap.from_list("sequential", [self.ground, self.colors[0]])

    @property
    def diverging(self) -> LinearSegmentedColormap:
        """From less over nothing to more."""
        return LinearSegmentedColormap.from_list("diverging", [self.colors[1], self.ground, self.colors[0]])


def palette() -> Palette:
    """The colours to draw with; ask inside of a `drawing`."""
    now: Any = rcParams
    colors = tuple(now["axes.prop_cycle"].by_key()["color"])
    shades = ("text.color", "axes.edgecolor", "grid.color", "figure.facecolor")
    return Palette(colors, *(now[name] for name in shades))


def readable_on(color: Any) -> str:
    """Black or white: letters on a ground of this colour."""
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(color))
    return "black" if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179 else "white"


def fixed_width() -> float | None:
    """The inches that the style sheets make every figure wide; None: as wide as it is drawn."""
    width = float(rcParams["figure.figsize"][0])
    return None if rcParams["savefig.bbox"] == "tight" else width


def _letters() -> float:
    """How large letters are, of those that sizes in drawing functions are meant for."""
    return float(rcParams["font.size"]) / _NATURAL


def room() -> float:
    """The width that a figure may have, in the inches of `new_figure`."""
    width = fixed_width()
    return float("inf") if width is None else width / _letters()


class Drawn(Figure):
    """A figure that says in words what is on it, to people who do not see it, and knows what it shows.

    Attributes:
        alt: one or two sentences: the kind of figure, what it shows, and what stands out.
        drawing: the `saving.Drawing` that it was drawn from.
    """

    alt = ""
    drawing: Any = None

    def described(self, alt: str) -> Drawn:
        """This figure, with `alt` set: ``return figure.described(...)`` ends every function that draws."""
        self.alt = " ".join(alt.split())
        return self

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> tuple[dict, dict]:
        """The alternative text, beside the image that ``%matplotlib inline`` makes; pages read it there."""
        return {}, {"image/png": {"alt": self.alt}}


def listed(values: Mapping[str, float] | pd.Series, form: str = ".2f", most: int = 12) -> str:
    """ "cat 0.91, dog 0.12 and 3 more", for the words beside a figure."""
    entries = [f"{name} {value:{form}}".replace("\n", " ") for name, value in list(values.items())[:most]]
    return ", ".join(entries) + (f" and {len(values) - most} more" if len(values) > most else "")


def new_figure(width: float, height: float) -> Drawn:
    """An empty figure, in inches, as if letters had 10 points: others shrink or stretch it with them. A look
    that has a width gives it that."""
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
    """A figure with a column of axes for each title.

    Args:
        width, height: of a column, in inches.
        most: columns side by side; fewer where the look has no room for as many of at least `least` inches
            (default: 0.72 of the width). The others stand below.
        rows: axes of a column; the title is above the first.
        shared: ``sharex``, ``sharey`` of ``Figure.subplots``; ``width_ratios``, where all stand side by side.

    Returns:
        The figure, and its axes: (titles,), or (titles, rows) where a column has several.
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
    """What the colours mean, each label once for all axes, below them: there it crosses no curve."""
    entries: dict[str, Any] = {}
    for ax in figure.axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    if not entries:
        return
    wide = max(len(label) for label in entries) * 0.075 + 0.55  # inches of an entry, in small letters
    available = figure.get_figwidth() / _letters()
    columns = max(1, min(len(entries), int(available / wide)))
    figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=columns)


def plain(ax: Axes, grid: Literal["x", "y", "both"] | None = None) -> None:
    """No frame but the axes themselves, and faint lines behind across ``x``, ``y`` or ``both``."""
    ax.spines[["top", "right"]].set_visible(False)
    if grid:
        ax.grid(axis=grid)


def name_rows(ax: Axes, names: Sequence) -> None:
    """Rows from the top, at 0, 1, 2 ..., with their names beside."""
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()


def heat_map(
    ax: Axes,
    matrix: pd.DataFrame,
    write: Callable[[float], str],
    rotation: float = 0,
    size: str | None = None,
    **shades: Any,
) -> None:
    """A matrix in shades, its words at the axes.

    Args:
        write: from a value to what is written into its cell.
        rotation: of the words of columns, in degrees. size: of what is written.
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
    """The area of a dot in square points, for letters of the look, of one so large beside letters of 10."""
    return size * _letters() ** 2


def signed(value: float, digits: int = 2) -> str:
    """A number with a minus sign that is as wide as a plus."""
    return f"{round(value, digits) + 0:.{digits}f}".replace("-", "−")


def runs_and_mean(ax: Axes, table: pd.DataFrame, x: str, y: str, color: str, label: str, **more: Any) -> None:
    """A thin line a run, where the table has a column ``run``, and a thick one for their mean."""
    whole = rcParams["lines.linewidth"]
    for _, run in table.groupby("run") if "run" in table else []:
        ax.plot(run[x], run[y], color=color, linewidth=0.5 * whole, alpha=0.5)
    mean = table.groupby(x)[y].mean()
    ax.plot(mean.index, mean, color=color, linewidth=1.3 * whole, label=label, **more)


def wrap_titles(figure: Figure) -> None:
    """Titles and labels in as many lines as they need to stay beside their own axes."""
    figure.draw_without_rendering()  # places the axes
    for ax in figure.axes:
        if ax.get_label() == "<colorbar>":
            continue
        box = ax.get_position(original=True).transformed(ax.figure.transSubfigure)
        texts = ((ax.title, box.width), (ax.xaxis.label, box.width), (ax.yaxis.label, box.height))
        for text, pixels in texts:
            letters = max(8, int(pixels / figure.dpi * 72 / (0.56 * float(text.get_fontsize()))))
            text.set_text("\n".join(textwrap.fill(line, letters) for line in text.get_text().split("\n")))
