"""What models reach, from tables made for the figures."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from support.figures import drawn, texts

from liqe_core.figures import results as figures


@pytest.fixture
def named():
    return pd.DataFrame(
        {
            "true_distortion": ["blur"] * 4 + ["noise"] * 2,
            "distortion": ["blur", "blur", "blur", "noise", "noise", "noise"],
            "quality": [1.0, 2.0, 2.5, 3.0, 4.0, 4.5],
        }
    )


def test_right_and_wrong_says_what_was_named_instead(named):
    figure = figures.right_and_wrong(named)
    words = texts(figure)
    assert "blur (4)" in words and "rather: noise (1)" in words and "83% of all; always 'blur': 67%" in words
    assert drawn(figure).std() > 5


def test_beside_the_others_counts_the_names(named):
    figure = figures.beside_the_others(named[named["true_distortion"] == "blur"], "blur", 2.0)
    names_ax, quality_ax = figure.axes
    assert [bar.get_width() for bar in names_ax.patches] == [3, 1] and "of 4 photographs" in texts(figure)
    assert sum(bar.get_height() for bar in quality_ax.patches) == 4
    assert drawn(figure).std() > 5


def test_arms_differences_and_levels_have_a_row_each():
    runs = pd.DataFrame({"arm": ["Q", "Q", "Q+S+D"], "seed": [1, 2, 1], "srcc": [0.5, 0.6, 0.7]})
    figure = figures.arms(runs, ["Q", "Q+S+D"])
    assert [len(dots.get_offsets()) for dots in figure.axes[0].collections] == [2, 1]
    rows = pd.DataFrame(
        {"arm": ["S", "D"], "difference": [0.1, -0.1], "low": [0.0, -0.2], "high": [0.2, 0.0]}
    )
    for made in (
        figure,
        figures.differences(rows),
        figures.levels(rows.rename(columns={"arm": "method", "difference": "srcc"})),
    ):
        assert drawn(made).std() > 5


def test_cells_are_shaded_by_distance():
    text = pd.DataFrame([["0.9", "0.8\n0.7", "no run"]], ["ours"], list("abc"))
    distance = pd.DataFrame([[0.05, -0.05, np.nan]], index=["ours"], columns=list("abc"))
    figure = figures.shaded_table(text, distance, limit=0.05)
    ax = figure.axes[0]
    higher, lower, blank = [to_rgb(patch.get_facecolor()) for patch in ax.patches]
    assert higher[2] > higher[0] and lower[0] > lower[2] and blank == (1, 1, 1), "blue, red, white"
    assert [t.get_text() for t in ax.texts] == ["0.9", "0.8\n0.7", "no run"]
    assert len(figure.axes) == 2 and len(figures.shaded_table(text, distance * np.nan).axes) == 1
    drawn(figure)
