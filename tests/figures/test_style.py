"""What all figures share."""

import pandas as pd
import pytest
from IPython.core.formatters import DisplayFormatter
from IPython.core.pylabtools import select_figure_formats
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from liqe_core.figures.style import drawn_as, listed, new_figure, palette, panels, readable_on
from liqe_core.figures.training import confusion, training_curves


def test_a_figure_shown_in_a_notebook_carries_its_alternative_text():
    class Shell:  # the interface that `%matplotlib inline` needs
        display_formatter = DisplayFormatter(active_types=["text/plain", "image/png"])

    select_figure_formats(Shell, {"png"})
    figure = new_figure(1, 1).described("A square,\n   empty.")
    figure.subplots()
    assert isinstance(figure, Figure)
    data, metadata = Shell.display_formatter.format(figure)
    assert data["image/png"] and metadata["image/png"]["alt"] == "A square, empty."


def test_a_list_in_an_alternative_text_counts_omitted_entries():
    assert listed({"cat\nwhite": 0.5, "dog": 0.25}) == "cat white 0.50, dog 0.25"
    assert listed(pd.Series([1, 2, 3], ["a", "b", "c"]), "d", most=2) == "a 1, b 2 and 1 more"
    assert listed({}) == ""


def test_a_look_decides_how_many_panels_stand_in_a_row():
    for sheets, width, rows in (((), 12, 1), (("paper",), 3.3, 3), (("paper", "page"), 6.9, 1)):
        with drawn_as(*sheets):
            figure, axes = panels(["a", "b", "c"], 4, 3)
        assert figure.get_figwidth() == width
        assert len({ax.get_subplotspec().rowspan.start for ax in axes}) == rows
    with pytest.raises(OSError, match="poster"), drawn_as("poster"):
        pass


def contrast(color, ground):
    """WCAG's ratio, from 1 to 21."""
    bright = []
    for shade in (color, ground):
        parts = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(shade)]
        bright.append(0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2])
    return (max(bright) + 0.05) / (min(bright) + 0.05)


@pytest.mark.parametrize("dark", [False, True])
def test_letters_and_colours_stand_out(dark):
    with drawn_as("paper", *["dark"] * dark):
        paint = palette()
    assert contrast(paint.ink, paint.ground) > 7 and contrast(paint.grey, paint.ground) > 4.5
    assert min(contrast(color, paint.ground) for color in paint.tasks.values()) > 2
    assert len(set(paint.colors)) == 7
    for color in paint.colors:
        assert contrast(readable_on(color), color) > 4.5


def test_a_legend_crosses_no_curve_in_a_column():
    epochs = pd.DataFrame({"epoch": range(5), "srcc": 0.5, "scene_accuracy": 0.4, "distortion_accuracy": 0.3})
    for task in ("quality", "scene", "distortion"):
        epochs[f"{task}_loss"] = epochs[f"{task}_weight"] = 1.0
    with drawn_as("paper"):
        figure = training_curves(epochs)
        figure.draw_without_rendering()
    (box,) = [legend.get_window_extent() for legend in figure.legends]
    assert figure.axes[0].get_legend() is None
    boxes = [ax.get_tightbbox() for ax in figure.axes]
    assert not any(box.overlaps(panel) for panel in boxes)
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i]), "nor do panels collide"
    whole = figure.bbox
    assert all(whole.x0 <= part.x0 and part.x1 <= whole.x1 for part in (box, *boxes)), "and nothing is cut"


def test_a_long_title_is_wrapped_to_the_figure():
    words = ["jpeg2000 compression", "noise"]
    matrix = pd.DataFrame([[3, 1], [0, 2]], words, words)
    with drawn_as("paper"):
        figure = confusion(matrix, "distortion, test part of session 1, share of each row")
        figure.draw_without_rendering()
    title = figure.axes[0].title.get_window_extent()
    assert "\n" in figure.axes[0].get_title()
    assert figure.bbox.x0 <= title.x0 and title.x1 <= figure.bbox.x1
