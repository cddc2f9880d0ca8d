"""What models reach, from tables made for the figures."""

import pandas as pd
import pytest
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
