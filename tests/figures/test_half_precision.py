"""Which weights half precision lets move."""

import pandas as pd
import pytest
from support.figures import drawn, texts

from liqe_core.figures import half_precision


def test_every_weight_is_stuck_or_moves():
    sizes = pd.DataFrame({"exponent": [-8, -7, -6], "share": [0.2, 0.3, 0.5]})
    sizes["half_spacing"] = [2**-19, 2**-18, 2**-17]
    kinds = pd.DataFrame({"stuck": [0.5, 0.1], "stuck_at_part": [0.8, 0.4]}, index=["MLP", "patches"])
    figure = half_precision.what_can_move(sizes, kinds, 5e-6, 3e-6)
    sizes_ax, kinds_ax = figure.axes
    assert len({bar.get_facecolor() for bar in sizes_ax.patches}) == 3, "one size of each"
    assert [bar.get_width() for bar in kinds_ax.patches] == pytest.approx([0.5, 0.1, 0.3, 0.3, 0.2, 0.6])
    words = texts(figure)
    assert "50%" in words and "stuck at 5.0e-06" in words and "moves at 3.0e-06" in words
    assert drawn(figure).std() > 5
