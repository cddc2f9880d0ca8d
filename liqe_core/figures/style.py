"""What all figures share: one style file, colours, an empty figure, plain axes, and how a figure is kept.

How a figure looks is `liqe.mplstyle` beside this file, at one of three sizes (`LOOKS`), light or dark. A
function that draws is a `drawing`: it gives its figure the look that holds where it is called, that of a
notebook where `drawn_as` says no other. Figures are made outside pyplot: nothing is left open, and no backend
is chosen for whoever imports this. The caller saves one with `save`, or shows it as the value of a cell.
"""

from __future__ import annotations

import contextlib
import functools
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Literal, NamedTuple, ParamSpec

import pandas as pd
from matplotlib import colormaps, rc_context, rc_params_from_file, rcParams
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.rcsetup import cycler

from liqe_core.files import atomic_path, write_csv

#: From worst to best; readable without colour vision and in grey.
QUALITY_COLORS = colormaps["cividis"]
#: Line styles and markers tell apart in grey what colours tell apart otherwise.
STYLES: tuple[Any, ...] = ("-", "--", "-.", ":")
MARKERS = ("o", "^", "s", "D", "v", "P")
#: Inches that a journal's page has for a figure.
WIDTHS = {"column": 3.3, "page": 6.9}

_FILE = Path(__file__).with_name("liqe.mplstyle")
_NATURAL = 10.0  # points: sizes in drawing functions are inches of a figure with such letters


class Look(NamedTuple):
    """How large a figure is. letters: in points. width: in inches; None: as wide as it is drawn."""

    letters: float
    width: float | None


#: On a screen, in a paper, on a slide of 13.3 inches.
LOOKS = {
    "notebook": Look(10, None),
    "paper": Look(7, WIDTHS["column"]),
    "talk": Look(16, 12.0),
}

_current: ContextVar[tuple[Look, bool]] = ContextVar("look", default=(LOOKS["notebook"], False))


@contextmanager
def drawn_as(style: str = "notebook", width: float | None = None, dark: bool = False) -> Iterator[None]:
    """Figures that are drawn and saved in the block have this look.

    Args:
        style: one of `LOOKS`. width: in inches; None: the style's. dark: light letters on a dark ground.

    Raises:
        ValueError: another style.
    """
    if style not in LOOKS:
        raise ValueError(f"style is {style!r}: choose one of {', '.join(LOOKS)}")
    look = LOOKS[style]
    token = _current.set((look._replace(width=width or look.width), dark))
    try:
        yield
    finally:
        _current.reset(token)


#: What a shade of the style file is in the dark, where black and the darker blue would drown.
_DARK = {
    "#FFFFFF": "#1E2024",
    "#333333": "#E8E8E8",
    "#666666": "#A9ADB3",
    "#DDDDDD": "#3D4147",
    "#0072B2": "#56B4E9",
    "#56B4E9": "#0072B2",
    "#000000": "#FFFFFF",
}


@functools.cache
def _parameters(letters: float, dark: bool) -> Any:
    """matplotlib's settings of a look."""
    given: Any = rc_params_from_file(_FILE, use_default_template=False)  # its names are many a literal
    settings = dict(given)
    settings["font.size"] = letters
    thin = letters / _NATURAL
    for name in (
        "axes.linewidth",
        "grid.linewidth",
        "lines.linewidth",
        "lines.markersize",
        "patch.linewidth",
    ):
        settings[name] = settings[name] * thin
    for mark in ("xtick", "ytick"):
        settings[f"{mark}.major.size"], settings[f"{mark}.major.width"] = 3.5 * thin, 0.8 * thin
    if dark:
        colors = [_DARK.get(color, color) for color in settings["axes.prop_cycle"].by_key()["color"]]
        settings = {k: _DARK.get(v, v) if isinstance(v, str) else v for k, v in settings.items()}
        settings["axes.prop_cycle"] = cycler("color", colors)
    return settings


def look_that_holds() -> contextlib.AbstractContextManager[None]:
    """matplotlib's settings, and so `palette`, in the block; a `drawing` has them already."""
    look, dark = _current.get()
    return rc_context(_parameters(look.letters, dark))


_Given = ParamSpec("_Given")


def drawing(draw: Callable[_Given, Figure]) -> Callable[_Given, Figure]:
    """Makes a function that returns a figure draw it in the look that holds where it is called."""

    @functools.wraps(draw)
    def styled(*args: _Given.args, **kwargs: _Given.kwargs) -> Figure:
        with look_that_holds():
            figure = draw(*args, **kwargs)
            if _current.get()[0].width is not None:
                _wrap(figure)
            for ax in figure.axes:
                for axis in (ax.xaxis, ax.yaxis):
                    axis.get_major_ticks()  # else they are made when it is shown, in the look of that moment
            return figure

    return styled


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


def save(
    figure: Figure,
    folder: str | Path,
    name: str,
    data: pd.DataFrame | None = None,
    suffixes: Sequence[str] = ("png", "svg"),
    dpi: int = 150,
) -> list[Path]:
    """Write ``name.png``, ``name.svg`` and, with data, ``name.csv``; return the paths.

    Args:
        data: what is drawn; without its index. Headers of several rows or lines become one line.
        suffixes: other kinds of file, such as pdf. dpi: dots an inch.
    """
    paths = [Path(folder) / f"{name}.{suffix}" for suffix in suffixes]
    fixed = _current.get()[0].width is not None  # then the file is as wide as asked
    alt = getattr(figure, "alt", "")
    with look_that_holds():
        for path in paths:
            with atomic_path(path) as part:
                # No date in the file: the same figure is the same bytes. Its words go with it.
                metadata = {
                    ".svg": {"Date": None, "Description": alt},
                    ".pdf": {"CreationDate": None, "Subject": alt},
                    ".png": {"Description": alt},
                }.get(path.suffix)
                box = None if fixed else "tight"
                figure.savefig(part, dpi=dpi, bbox_inches=box, metadata=metadata)
    if data is not None:
        paths.append(Path(folder) / f"{name}.csv")
        write_csv(paths[-1], flat(data))
    return paths


def flat(table: pd.DataFrame) -> pd.DataFrame:
    """The same with headers of one row and one line each, and every cell on one line."""
    names = [" ".join(map(str, c)) if isinstance(c, tuple) else str(c) for c in table.columns]
    table = table.set_axis([" ".join(name.split()) for name in names], axis=1)
    return table.map(lambda cell: " ".join(cell.split()) if isinstance(cell, str) and "\n" in cell else cell)


def room() -> float:
    """The width that a figure may have, in the inches of `new_figure`."""
    look, _ = _current.get()
    return float("inf") if look.width is None else look.width * _NATURAL / look.letters


def _fitting(count: int, least: float) -> int:
    """How many of so many columns the look has room for, where one takes at least so many inches."""
    return max(1, int(min(count, room() / least)))


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


def listed(values: Mapping[str, float] | pd.Series, form: str = ".2f", most: int = 12) -> str:
    """ "cat 0.91, dog 0.12 and 3 more", for the words beside a figure."""
    told = [f"{name} {value:{form}}".replace("\n", " ") for name, value in list(values.items())[:most]]
    return ", ".join(told) + (f" and {len(values) - most} more" if len(values) > most else "")


def new_figure(width: float, height: float) -> Drawn:
    """An empty figure, in inches, as if letters had 10 points: others shrink or stretch it with them. A look
    that has a width gives it that."""
    look, _ = _current.get()
    scale = look.letters / _NATURAL
    return Drawn(figsize=(look.width or width * scale, height * scale), layout="constrained")


def panels(
    titles: Sequence[str],
    width: float,
    height: float,
    most: int = 4,
    least: float | None = None,
    ratios: Sequence[float] | None = None,
    **shared: Any,
) -> tuple[Drawn, list[Axes]]:
    """A figure with an axes for each title, so many of these inches.

    Args:
        most: in a row; fewer where the look has no room for so many of at least `least` inches (default: 0.72
            of the width), and the rest below.
        ratios: of their widths, where all stand in one row.
        shared: ``sharex``, ``sharey`` of ``Figure.subplots``.
    """
    count = len(titles)
    columns = _fitting(min(most, count), least or 0.72 * width)
    rows = -(-count // columns)
    figure = new_figure(width * columns, height * rows)
    if ratios and rows == 1:
        shared["width_ratios"] = ratios
    axes = list(figure.subplots(rows, columns, squeeze=False, **shared).ravel())
    for ax, title in zip(axes, titles, strict=False):
        ax.set_title(title)
    for ax in axes[count:]:
        ax.set_visible(False)
    return figure, axes[:count]


def stacked(
    count: int, width: float, height: float, rows: int, least: float, **shared: Any
) -> tuple[Drawn, Any]:
    """A figure of `count` columns that each have `rows` axes; where the look has no room for so many of at
    least `least` inches, the rest stand below as another such band.

    Args:
        width: of a column, in inches. height: of a band.

    Returns:
        The figure, and its axes, (count, rows).
    """
    columns = _fitting(count, least)
    bands = -(-count // columns)
    figure = new_figure(width * columns, height * bands)
    axes = figure.subplots(rows * bands, columns, squeeze=False, **shared)
    axes = axes.reshape(bands, rows, columns).transpose(0, 2, 1).reshape(bands * columns, rows)
    for ax in axes[count:].ravel():
        ax.set_visible(False)
    return figure, axes[:count]


def legend(figure: Figure, axes: Sequence[Axes] | None = None) -> None:
    """What the colours mean, once for all axes, below them: there it crosses no curve.

    Args:
        axes: whose entries; default: all. One label is told once.
    """
    entries: dict[str, Any] = {}
    for ax in figure.axes if axes is None else axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    if not entries:
        return
    wide = max(len(label) for label in entries) * 0.075 + 0.55  # inches of an entry, in small letters
    available = figure.get_figwidth() * _NATURAL / _current.get()[0].letters
    columns = max(1, min(len(entries), int(available / wide)))
    figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=columns)


def plain(ax: Axes, grid: Literal["x", "y", "both"] | None = None) -> None:
    """No frame but the axes themselves, and faint lines behind across ``x``, ``y`` or ``both``."""
    ax.spines[["top", "right"]].set_visible(False)
    if grid:
        ax.grid(axis=grid)


def dot(size: float) -> float:
    """The area of a dot in square points, for letters of the look, of one so large beside letters of 10."""
    return size * (float(rcParams["font.size"]) / _NATURAL) ** 2


def signed(value: float, digits: int = 2) -> str:
    """A number with a minus sign that is as wide as a plus."""
    return f"{value:.{digits}f}".replace("-", "−")


def runs_and_mean(ax: Axes, table: pd.DataFrame, x: str, y: str, color: str, label: str, **more: Any) -> None:
    """A thin line a run, where the table has a column ``run``, and a thick one for their mean."""
    whole = rcParams["lines.linewidth"]
    for _, run in table.groupby("run") if "run" in table else []:
        ax.plot(run[x], run[y], color=color, linewidth=0.5 * whole, alpha=0.5)
    mean = table.groupby(x)[y].mean()
    ax.plot(mean.index, mean, color=color, linewidth=1.3 * whole, label=label, **more)


def _wrap(figure: Figure) -> None:
    """Titles and labels in as many lines as they need to stay over their own axes, and in the figure."""
    engine = figure.get_layout_engine()
    if engine is None or not figure.axes:
        return
    engine.execute(figure)
    all_axes = [
        ax for ax in figure.axes if ax.get_subplotspec() is not None and ax.get_label() != "<colorbar>"
    ]
    inches, boxes = figure.get_size_inches(), [ax.get_position() for ax in all_axes]
    for ax, box in zip(all_axes, boxes, strict=True):
        row = [other for other in boxes if other is not box and other.y0 < box.y1 and box.y0 < other.y1]
        middle = [(box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2]
        beside = [abs((other.x0 + other.x1) / 2 - middle[0]) / 2 for other in row]
        wide = 2 * min([middle[0], 1 - middle[0], *(half for half in beside if half)])
        high = max(box.height, 2 * min(middle[1], 1 - middle[1]) if len(boxes) == 1 else 0)
        for text, room_for in (
            (ax.title, wide * inches[0]),
            (ax.xaxis.label, wide * inches[0]),
            (ax.yaxis.label, high * inches[1]),
        ):
            letters = max(8, int(room_for * 72 / (0.56 * float(text.get_fontsize()))))
            lines = (textwrap.wrap(line, letters) or [""] for line in text.get_text().split("\n"))
            text.set_text("\n".join(line for wrapped in lines for line in wrapped))
