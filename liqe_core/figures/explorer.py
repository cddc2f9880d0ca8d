"""A picture, sliders for its faults, and what a model says: live in Jupyter, and as a figure elsewhere.

What is said of a picture at one position of the sliders is `Seen`: the picture, (H, W, 3) uint8; the joint
probability by ``quality``, ``scene`` and ``distortion``, words of an axis in their order; and its windows, a
row each: ``y``, ``x``, ``side`` in pixels and the ``quality`` of the window by itself. How it came about is
the business of whoever asks.
"""

from __future__ import annotations

import base64
import functools
import html
import io
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_hex
from matplotlib.patches import Rectangle
from PIL import Image

from liqe_core.figures.saving import drawing
from liqe_core.figures.style import (
    QUALITY_COLORS,
    Drawn,
    drawn_as,
    listed,
    new_figure,
    palette,
    plain,
    readable_on,
)
from liqe_core.images import Source, read_picture

if TYPE_CHECKING:
    import ipywidgets

Seen = tuple[np.ndarray, pd.Series, pd.DataFrame]

#: Of the quality words at which the joint probability is shown, the one that is right most probably.
LIKELIEST = "the likeliest"


def someone_there() -> bool:
    """Whether a person may be moving sliders: in a kernel, unless nbclient started it. It runs notebooks for
    papermill, nbconvert and Jupyter Book, and keeps the history of what is typed in memory."""
    from IPython import get_ipython

    shell = get_ipython()
    history = getattr(shell, "history_manager", None)
    return hasattr(shell, "kernel") and getattr(history, "hist_file", "") != ":memory:"


def explorer(
    pictures: Mapping[str, Source],
    open_picture: Callable[[Source], np.ndarray],
    ask: Callable[[np.ndarray, Mapping[str, int]], Seen],
    sliders: Iterable[str],
    levels: int = 5,
) -> ipywidgets.VBox:
    """Widgets for a notebook: choose or upload a picture, turn up its faults, and read the answer.

    Args:
        pictures: what there is to choose from, by name; the first is shown.
        open_picture: from one of them, or the bytes of an uploaded file, to the picture that is asked about.
        ask: what is said of a picture at positions of the sliders, each 0 to `levels`. A ValueError of it, or
            of `open_picture`, is shown in place of the answer.
        sliders: what they are called.

    Raises:
        ValueError: no pictures.
    """
    import ipywidgets

    if not pictures:
        raise ValueError("no picture to explore: give one at least")
    widgets = _Widgets(pictures, sliders, levels)
    _Explorer(pictures, open_picture, ask, widgets).start()
    turned = ipywidgets.HBox([*widgets.sliders, widgets.word], layout=ipywidgets.Layout(flex_flow="row wrap"))
    chosen = ipywidgets.HBox([widgets.choose, widgets.upload])
    return ipywidgets.VBox([chosen, turned, widgets.answer, widgets.drawing])


class _Widgets:
    """What is on the page."""

    def __init__(self, pictures: Iterable[str], sliders: Iterable[str], levels: int) -> None:
        import ipywidgets

        wide = ipywidgets.Layout(width="max-content")
        self.choose = ipywidgets.Dropdown(options=list(pictures), description="picture")
        self.upload = ipywidgets.FileUpload(accept="image/*", description="my own photograph", layout=wide)
        self.sliders = [
            ipywidgets.IntSlider(0, 0, levels, description=name, continuous_update=False) for name in sliders
        ]
        self.word = ipywidgets.Dropdown(options=[LIKELIEST], description="joint at")
        self.answer, self.drawing = ipywidgets.HTML(), ipywidgets.HTML()


class _Explorer:
    """What happens when a widget moves. Each step needs the one before: a picture, an answer, a drawing."""

    def __init__(
        self,
        pictures: Mapping[str, Source],
        open_picture: Callable[[Source], np.ndarray],
        ask: Callable[[np.ndarray, Mapping[str, int]], Seen],
        widgets: _Widgets,
    ) -> None:
        self.pictures, self.open_picture, self.ask, self.widgets = dict(pictures), open_picture, ask, widgets
        self.image: np.ndarray | None = None
        self.seen: Seen | None = None

    def start(self) -> None:
        """Show the first picture, and listen."""
        widgets = self.widgets
        self.open()
        if self.seen:
            widgets.word.options = [LIKELIEST, *marginals(self.seen[1])["quality"].index]
        for widget, react in (
            (widgets.choose, self.open),
            (widgets.upload, self.take_upload),
            (widgets.word, self.draw),
            *((slider, self.answer) for slider in widgets.sliders),
        ):
            widget.observe(react, "value")

    def open(self, *_: object) -> None:
        self.image = None
        try:
            self.image = self.open_picture(self.pictures[self.widgets.choose.value])
        except ValueError as error:
            self.refuse(error)
        else:
            self.answer()

    def answer(self, *_: object) -> None:
        if self.image is None:
            return  # the reason stands there already
        try:
            positions = {slider.description: slider.value for slider in self.widgets.sliders}
            self.seen = self.ask(self.image, positions)
        except ValueError as error:
            self.refuse(error)
        else:
            self.draw()

    def draw(self, *_: object) -> None:
        if self.seen:
            self.widgets.answer.value = in_words(self.seen)
            self.widgets.drawing.value = as_html(self.seen, self.widgets.word.value)

    def refuse(self, error: ValueError) -> None:
        self.seen = None
        self.widgets.answer.value, self.widgets.drawing.value = html.escape(str(error)), ""

    def take_upload(self, *_: object) -> None:
        choose = self.widgets.choose
        for file in self.widgets.upload.value:
            chosen_already = choose.value == file["name"]
            self.pictures[file["name"]] = bytes(file["content"])
            choose.options = sorted(
                self.pictures, key=lambda name: name != file["name"]
            )  # the first is chosen
            if chosen_already:
                self.open()


def marginals(joint: pd.Series) -> dict[str, pd.Series]:
    """The probability of each word, for quality and every other axis that has more than one."""
    sums = {axis: joint.groupby(level=axis, sort=False).sum() for axis in joint.index.names}
    return {axis: p for axis, p in sums.items() if axis == "quality" or len(p) > 1}


def expected(joint: pd.Series) -> float:
    """Quality: the expected position of its word, from 1."""
    p = marginals(joint)["quality"]
    return float(p @ np.arange(1, len(p) + 1))


def in_words(seen: Seen) -> str:
    """The answer in a line of HTML that begins with ``quality``."""
    words = marginals(seen[1])
    tops = {axis: f"{html.escape(p.idxmax())} ({p.max():.2f})" for axis, p in words.items()}
    further = "".join(f"; {axis}: {top}" for axis, top in tops.items() if axis != "quality")
    return f"quality {expected(seen[1]):.2f} of {len(words['quality'])}, {tops['quality']}{further}"


def as_html(seen: Seen, word: str = LIKELIEST) -> str:
    """The picture with its windows, the probability of every word as bars, and the joint probability at one
    quality word, as HTML that needs nothing else and fits a narrow page."""
    _, joint, _ = seen
    words = marginals(joint)
    with drawn_as():
        parts = [_picture(seen), *(_bars(axis, p) for axis, p in words.items())]
        if {"scene", "distortion"} <= set(words):
            word = words["quality"].idxmax() if word == LIKELIEST else word
            parts.append(_joint(joint.xs(word, level="quality"), word, joint.max()))
    return f'<div style="display:flex;flex-wrap:wrap;gap:1em 2em;line-height:1.35">{"".join(parts)}</div>'


@drawing("explorer", "quickstart", "What the explorer shows at some positions of its sliders.")
def at_positions(joint: pd.DataFrame, windows: pd.DataFrame, images: pd.DataFrame) -> Drawn:
    """What the explorer shows at some positions of its sliders, a column each: the picture and its windows,
    framed in the colour of their own quality, and the probability of every word.

    Args:
        joint: ``position``, ``quality``, ``scene``, ``distortion`` and ``probability``; of all positions the
            same words.
        windows: ``position``, and of each window ``y``, ``x``, ``side`` and ``quality``.
        images: from `saving.image_table`, a picture a position.

    Raises:
        ValueError: nothing to show.
    """
    if joint.empty:
        raise ValueError("no position to draw: give one at least")
    axes_of_words = ["quality", "scene", "distortion"]
    seen = {
        name: (np.asarray(read_picture(file)), rows.set_index(axes_of_words)["probability"], windows_there)
        for (name, rows), (_, windows_there), file in zip(
            joint.groupby("position", sort=False),
            windows.groupby("position", sort=False),
            images["file"],
            strict=True,
        )
    }
    words = marginals(next(iter(seen.values()))[1])
    ratios = [7, *map(len, words.values())]
    figure = new_figure(2.3 * len(seen) + 2, 0.25 * sum(ratios))
    rows = figure.subplots(len(ratios), len(seen), squeeze=False, height_ratios=ratios)
    for column, (name, (image, probability, frames)) in zip(rows.T, seen.items(), strict=True):
        quality = expected(probability)
        column[0].imshow(image)
        column[0].set(title=f"{name}\nquality {quality:.2f}", xticks=[], yticks=[])
        for window in frames.itertuples():
            frame = functools.partial(Rectangle, (window.x, window.y), window.side, window.side, fill=False)
            color = _color(window.quality, len(words["quality"]))
            column[0].add_patch(frame(edgecolor="white", linewidth=2.4))
            column[0].add_patch(frame(edgecolor=color, linewidth=1.6))
        for ax, (axis, p) in zip(column[1:], marginals(probability).items(), strict=True):
            ax.barh(range(len(p)), p, color=palette().tasks[axis])
            ax.set_yticks(range(len(p)), p.index if ax in rows[:, 0] else [])
            ax.set(xlim=(0, 1), xlabel="probability" if ax is column[-1] else "")
            ax.set_xticks([0, 0.5, 1], ["0", "½", "1"] if ax is column[-1] else [])
            ax.invert_yaxis()
            plain(ax, "x")
        column[1].axhline(quality - 1, color=palette().ink, linewidth=1.2, linestyle="--")
    for ax, axis in zip(rows[1:, 0], words, strict=True):
        ax.set_ylabel(axis)
    figure.align_ylabels(rows[1:, 0])
    scale = ScalarMappable(Normalize(1, len(words["quality"])), QUALITY_COLORS)
    figure.colorbar(scale, ax=list(rows[0]), label="quality of a window", fraction=0.03, pad=0.01)
    quality_at = {name: expected(probability) for name, (_, probability, _) in seen.items()}
    return figure.described(
        "A column for each position of the sliders: the picture with its windows, and bars with the "
        f"probability of every word. Quality: {listed(quality_at)}."
    )


def _color(quality: float, words: int) -> str:
    return to_hex(QUALITY_COLORS((quality - 1) / max(1, words - 1)))


def _picture(seen: Seen) -> str:
    image, joint, windows = seen
    height, width = image.shape[:2]
    count = len(marginals(joint)["quality"])
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG", compress_level=1)  # what compression does is to be seen
    data = base64.b64encode(file.getvalue()).decode()
    frames, marks = [], []
    for y, x, side, quality in windows[["y", "x", "side", "quality"]].itertuples(index=False):
        color, middle = _color(quality, count), f'x="{x + side / 2}" y="{y + side / 2}"'
        frame = f'<rect x="{x + 1}" y="{y + 1}" width="{side - 2}" height="{side - 2}" fill="none"'
        frames += [f'{frame} stroke="white" stroke-width="4"/>{frame} stroke="{color}" stroke-width="2"/>']
        ink = readable_on(color)
        marks += [
            f'<rect {middle} width="34" height="20" rx="4" fill="{color}" transform="translate(-17 -10)"/>'
            f'<text {middle} dy="5" text-anchor="middle" font-size="14" fill="{ink}">{quality:.1f}</text>'
        ]
    label = f"the picture, and {len(windows)} windows with a quality of "
    label += f"{windows['quality'].min():.1f} to {windows['quality'].max():.1f} by themselves"
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{label}" '
        f'style="flex:1 1 260px;max-width:{width}px"><image width="{width}" height="{height}" '
        f'href="data:image/png;base64,{data}"/>{"".join(frames + marks)}</svg>'
    )


def _bars(axis: str, p: pd.Series) -> str:
    bar = f'<span style="display:block;height:0.8em;background:{palette().tasks[axis]};width:'
    rows = [
        f'<span>{html.escape(word)}</span><span>{bar}{value:.1%}"></span></span><span>{value:.2f}</span>'
        for word, value in p.items()
    ]
    grid = "display:grid;grid-template-columns:max-content 7em max-content;gap:0 0.6em;align-items:center"
    return f'<div><b>{axis}</b><div style="{grid}">{"".join(rows)}</div></div>'


def _joint(p: pd.Series, word: str, most: float) -> str:
    table = p.unstack("scene", sort=False)
    upright = 'scope="col" style="writing-mode:vertical-rl;transform:rotate(180deg);font-weight:normal"'
    heads = "".join(f"<th {upright}>{html.escape(name)}</th>" for name in table.columns)
    # All words on one scale. The last two digits of the colour are how opaque it is: ink stays readable.
    shades = (140 * table / most).round().astype(int)
    rows, ground = [], palette().tasks["quality"]
    for name in table.index:
        cells = "".join(
            f'<td style="min-width:1.9em;text-align:right;background:{ground}{shade:02x}">'
            f"{round(100 * value) or ''}</td>"
            for value, shade in zip(table.loc[name], shades.loc[name], strict=True)
        )
        head = f'<th scope="row" style="font-weight:normal;text-align:left">{html.escape(str(name))}</th>'
        rows.append(f"<tr>{head}{cells}</tr>")
    caption = f"<caption><b>joint probability with {html.escape(word)}, in hundredths</b></caption>"
    return f"<table>{caption}<tr><td></td>{heads}</tr>{''.join(rows)}</table>"
