"""What models reach, from tables made for the figures."""

import pandas as pd
from support.figures import drawn, texts

from liqe_core.figures import results as figures


def test_right_and_wrong_names_the_wrong_predictions():
    named = pd.DataFrame({"true_distortion": ["blur"] * 4 + ["noise"] * 2, "quality": [1, 2, 2.5, 3, 4, 4.5]})
    named["distortion"] = ["blur"] * 3 + ["noise"] * 3
    figure = figures.right_and_wrong(named)
    words = texts(figure)
    assert "blur (4)" in words and "wrong: noise (1)" in words and "83% of all" in words
    assert "always 'blur': 67%" in words
    assert drawn(figure).std() > 5
