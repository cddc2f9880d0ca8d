"""What all figures share."""

import pandas as pd
from IPython.core.formatters import DisplayFormatter
from IPython.core.pylabtools import select_figure_formats
from matplotlib.figure import Figure

from liqe_core.figures.style import listed, new_figure


def test_a_figure_shown_in_a_notebook_carries_its_alternative_text():
    class Shell:  # what `%matplotlib inline` needs of it
        display_formatter = DisplayFormatter(active_types=["text/plain", "image/png"])

    select_figure_formats(Shell, {"png"})
    figure = new_figure(1, 1).described("A square,\n   empty.")
    figure.subplots()
    assert isinstance(figure, Figure)
    data, metadata = Shell.display_formatter.format(figure)
    assert data["image/png"] and metadata["image/png"]["alt"] == "A square, empty."


def test_what_is_listed_beside_a_figure_says_how_much_is_left_out():
    assert listed({"cat\nwhite": 0.5, "dog": 0.25}) == "cat white 0.50, dog 0.25"
    assert listed(pd.Series([1, 2, 3], ["a", "b", "c"]), "d", most=2) == "a 1, b 2 and 1 more"
    assert listed({}) == ""
