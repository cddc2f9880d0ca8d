"""What can move: every weight is in one of three colours."""

import pandas as pd
import pytest
from support.figures import drawn, texts

from liqe_core.figures.half_precision import what_can_move


def test_every_weight_is_stuck_or_moves():
    sizes = pd.DataFrame(
        {"exponent": [-8, -7, -6], "share": [0.2, 0.3, 0.5], "half_spacing": [2**-19, 2**-18, 2**-17]}
    )
    kinds = pd.DataFrame({"weights": [10, 5], 5e-6: [0.5, 0.1], 3e-6: [0.8, 0.4]}, index=["MLP", "patches"])
    figure = what_can_move(sizes, kinds, 5e-6, 3e-6)
    left, right = figure.axes
    assert len({bar.get_facecolor() for bar in left.patches}) == 3, "one size of each"
    assert [bar.get_width() for bar in right.patches] == pytest.approx([0.5, 0.1, 0.3, 0.3, 0.2, 0.6])
    said = texts(figure)
    assert "50%" in said and "stuck at 5.0e-06" in said and "moves at 3.0e-06" in said
    assert drawn(figure).std() > 5
