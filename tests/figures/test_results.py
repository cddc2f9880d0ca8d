"""What models reach, from tables made for the figures."""

import pandas as pd
from support.figures import drawn, texts

from liqe_core.figures import results as figures


def test_right_and_wrong_says_what_was_named_instead():
    named = pd.DataFrame({"true_distortion": ["blur"] * 4 + ["noise"] * 2, "quality": [1, 2, 2.5, 3, 4, 4.5]})
    named["distortion"] = ["blur"] * 3 + ["noise"] * 3
    figure = figures.right_and_wrong(named)
    words = texts(figure)
    assert "blur (4)" in words and "wrong: noise (1)" in words and "83% of all" in words
    assert "always 'blur': 67%" in words
    assert drawn(figure).std() > 5


def test_arms_differences_and_levels_have_a_row_each():
    runs = pd.DataFrame({"arm": ["Q", "Q", "Q+S+D"], "seed": [1, 2, 1], "srcc": [0.5, 0.6, 0.7]})
    figure = figures.arms(runs, ["Q", "Q+S+D"])
    assert [len(dots.get_offsets()) for dots in figure.axes[0].collections] == [2, 1]
    rows = pd.DataFrame({"arm": ["S", "D"], "difference": [0.1, -0.1], "low": [0.0, -0.2], "high": [0.2, 0]})
    levels = rows.rename(columns={"arm": "method", "difference": "srcc"})
    for made in (figure, figures.differences(rows), figures.levels(levels)):
        assert drawn(made).std() > 5
