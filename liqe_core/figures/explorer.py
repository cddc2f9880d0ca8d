"""Explorer: an image, sliders for distortions, and a model's answer, as Jupyter widgets or as a figure.

`Seen` is the answer at one position of the sliders: the image, (H, W, 3) uint8; the joint probability by
``quality``, ``scene`` and ``distortion``, in the order of the words; and a row for each window: ``y``, ``x``,
``side`` in pixels and the ``quality`` of the window alone. The caller computes it.
"""

from __future__ import annotations

import base64
import html
import io
import os
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize

from liqe_core.figures.answers import draw_words, expected_quality, frame_window, joint_maps
from liqe_core.figures.saving import drawing
from liqe_core.figures.style import QUALITY_COLORS, Drawn, drawn_as, listed, new_figure
from liqe_core.images import Source, read_image

if TYPE_CHECKING:
    import ipywidgets

Seen = tuple[np.ndarray, pd.Series, pd.DataFrame]

#: The largest upload in megabytes: Jupyter silently drops larger messages. `make lab` raises the limit.
MOST_UPLOADED = int(os.environ.get("LIQE_UPLOAD_MB", "10"))


def someone_there() -> bool:
    """Return whether a user can move sliders: in a Jupyter kernel that nbclient did not start.

    nbclient runs notebooks for papermill, nbconvert and Jupyter Book; it keeps the input history in memory.
    """
    from IPython import get_ipython

    shell = get_ipython()
    history = getattr(shell, "history_manager", None)
    return hasattr(shell, "kernel") and getattr(history, "hist_file", "") != ":memory:"


def explorer(
    images: Mapping[str, Source],
    open_image: Callable[[Source], np.ndarray],
    ask: Callable[[np.ndarray, Mapping[str, int]], Seen],
    sliders: Iterable[str],
    levels: int = 5,
) -> ipywidgets.VBox:
    """Make widgets for a notebook: choose or upload an image, distort it, and read the answer.

    Args:
        images: the images to choose from, by name; the first one is shown.
        open_image: reads one of them, or the bytes of an uploaded file.
        ask: returns the answer for an image and positions of the sliders, each 0 to `levels`. A ValueError of
            `ask` or `open_image` is shown instead of the answer.
        sliders: the names of the sliders.

    Raises:
        ValueError: there are no images.
    """
    import ipywidgets

    if not images:
        raise ValueError("no image to explore: give at least one")
    known, wide = dict(images), ipywidgets.Layout(width="max-content")
    choose = ipywidgets.Dropdown(options=list(known), description="image")
    upload = ipywidgets.FileUpload(accept="image/*", description="my own photograph", layout=wide)
    most = ipywidgets.Label(f"at most {MOST_UPLOADED} MB; set the parameter `image` for a larger file")
    faults = [
        ipywidgets.IntSlider(0, 0, levels, description=name, continuous_update=False) for name in sliders
    ]
    answer, drawn = ipywidgets.HTML(), ipywidgets.HTML()

    def show(*_: object) -> None:
        positions = {slider.description: slider.value for slider in faults}
        try:
            seen = ask(open_image(known[choose.value]), positions)
        except ValueError as error:
            answer.value, drawn.value = html.escape(str(error)), ""
            return
        answer.value, drawn.value = in_words(seen), as_html(seen)

    def take_upload(*_: object) -> None:
        for file in upload.value:
            if len(file["content"]) > MOST_UPLOADED * 1e6:
                words = f"{file['name']} is larger than {MOST_UPLOADED} MB: set the parameter `image`"
                answer.value, drawn.value = html.escape(words), ""
                return
            known[file["name"]] = bytes(file["content"])
            choose.options = sorted(known, key=lambda name: name != file["name"])  # selects the first
        show()

    show()
    upload.observe(take_upload, "value")
    for widget in (choose, *faults):
        widget.observe(show, "value")
    turned = ipywidgets.HBox(faults, layout=ipywidgets.Layout(flex_flow="row wrap"))
    return ipywidgets.VBox([ipywidgets.HBox([choose, upload, most]), turned, answer, drawn])


def marginals(joint: pd.Series) -> dict[str, pd.Series]:
    """Compute the marginal of quality, and of every other axis with more than one word."""
    sums = {axis: joint.groupby(level=axis, sort=False).sum() for axis in joint.index.names}
    return {axis: p for axis, p in sums.items() if axis == "quality" or len(p) > 1}


def in_words(seen: Seen) -> str:
    """Format the answer as a line of HTML that begins with ``quality``."""
    words = marginals(seen[1])
    tops = {axis: f"{html.escape(p.idxmax())} ({p.max():.2f})" for axis, p in words.items()}
    further = "".join(f"; {axis}: {top}" for axis, top in tops.items() if axis != "quality")
    quality = words["quality"]
    return f"quality {expected_quality(quality):.2f} of {len(quality)}, {tops['quality']}{further}"


def as_html(seen: Seen) -> str:
    """Render one position, and the joint probability of the likeliest quality, as self-contained HTML."""
    image, joint, windows = seen
    table, words = joint.rename("probability").reset_index(), marginals(joint)
    shown = [table.assign(position=""), windows.assign(position=""), pd.DataFrame({"file": [image]})]
    figures = [at_positions(*shown)]
    if {"scene", "distortion"} <= set(words):
        figures.append(joint_maps(table[table["quality"] == words["quality"].idxmax()], float(joint.max())))
    tags = ""
    for figure in figures:
        file = io.BytesIO()
        with drawn_as():
            figure.savefig(file, format="png", dpi=120)
        data = base64.b64encode(file.getvalue()).decode()
        tags += f'<img alt="{html.escape(figure.alt)}" src="data:image/png;base64,{data}">'
    return f'<div style="display:flex;flex-wrap:wrap;align-items:start">{tags}</div>'


@drawing("explorer", "quickstart", "The explorer at several positions of its sliders.")
def at_positions(joint: pd.DataFrame, windows: pd.DataFrame, images: pd.DataFrame) -> Drawn:
    """Draw the explorer at several positions of its sliders, a column for each.

    A column has the image, its windows framed in the color of their quality, and the probability of every
    word.

    Args:
        joint: ``position``, ``quality``, ``scene``, ``distortion`` and ``probability``, with the same words
            for all positions.
        windows: ``position``, and ``y``, ``x``, ``side`` and ``quality`` of each window.
        images: from `saving.image_table`, an image for each position.

    Raises:
        ValueError: there are no positions.
    """
    if joint.empty:
        raise ValueError("no position to draw: give at least one")
    answers = {
        name: marginals(rows.set_index(["quality", "scene", "distortion"])["probability"])
        for name, rows in joint.groupby("position", sort=False)
    }
    words = next(iter(answers.values()))
    scale = ScalarMappable(Normalize(1, len(words["quality"])), QUALITY_COLORS)
    quality_at = {name: expected_quality(answer["quality"]) for name, answer in answers.items()}
    ratios = [7 if len(answers) > 1 else 10, *map(len, words.values())]
    figure = new_figure(max(2.3 * len(answers), 3.6) + 2, 0.25 * sum(ratios))
    rows = figure.subplots(len(ratios), len(answers), squeeze=False, height_ratios=ratios)
    for column, file, (name, answer) in zip(rows.T, images["file"], answers.items(), strict=True):
        column[0].imshow(read_image(file))
        column[0].set(title=f"{name}\nquality {quality_at[name]:.2f}".strip(), xticks=[], yticks=[])
        for window in windows[windows["position"] == name].itertuples():
            frame_window(column[0], window, scale.to_rgba(window.quality), 1.6)
        for ax, (axis, p) in zip(column[1:], answer.items(), strict=True):
            draw_words(ax, axis, p)
            ax.set_xticks([0, 0.5, 1], ["0", "½", "1"])
            ax.tick_params(labelleft=ax in rows[:, 0], labelbottom=ax is column[-1])
        column[-1].set_xlabel("probability")
    for ax, axis in zip(rows[1:, 0], words, strict=True):
        ax.set_ylabel(axis)
    figure.align_ylabels(rows[1:, 0])
    figure.colorbar(scale, ax=list(rows[0]), label="quality of a window", fraction=0.03, pad=0.01)
    return figure.described(
        "A column for each position of the sliders: the image with its crops, and bars of the "
        f"probability of every word. Quality: {listed(quality_at)}."
    )
