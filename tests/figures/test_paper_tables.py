"""Tables as figures."""

import numpy as np
import pandas as pd
from matplotlib.colors import to_rgb

from liqe_core.figures import paper_tables


def test_cells_are_shaded_by_distance():
    text = pd.DataFrame([["0.9", "0.8\n0.7", "no run"]], index=["ours"], columns=list("abc"))
    distance = pd.DataFrame([[0.05, -0.05, np.nan]], index=["ours"], columns=list("abc"))
    figure = paper_tables.shaded_table(text, distance, limit=0.05)
    ax = figure.axes[0]
    higher, lower, blank = [to_rgb(patch.get_facecolor()) for patch in ax.patches]
    assert higher[2] > higher[0] and lower[0] > lower[2] and blank == (1, 1, 1), "blue, red, white"
    assert [t.get_text() for t in ax.texts] == ["0.9", "0.8\n0.7", "no run"]
    assert len(figure.axes) == 2 and len(paper_tables.shaded_table(text, distance * np.nan).axes) == 1
