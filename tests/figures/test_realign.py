"""Figures of realignment: every dataset is shown."""

import numpy as np
import pytest
from support.figures import drawn, texts

from liqe_core.figures.realign import realignment_overview, same_score_grid
from liqe_core.studies.realign import curve_points, same_score_pairs


def test_realignment_figures_show_every_set(realigned):
    points = curve_points(realigned)
    overview = realignment_overview(realigned.curves, points)
    assert [t.get_text() for t in overview.axes[1].get_yticklabels()] == ["naive", "straight", "bent"]
    assert f"stretch {realigned.curves.at['bent', 'stretch']:.2f}" in texts(overview)
    tenths = overview.axes[1].collections[1].get_offsets()
    naive = np.linspace(1.4, 4.6, 9)
    assert np.asarray(tenths)[:, 0] == pytest.approx(naive, abs=0.05), "as for a linear dataset"
    drawn(overview)


def test_same_score_grid(realigned, images):
    pairs = same_score_pairs(realigned.scores, tolerance=0.02)
    labels = [*pairs["better"], *pairs["worse"]]
    figure = same_score_grid(pairs, images.head(len(labels)).set_axis(labels))
    assert len(figure.axes) == 2 * len(pairs) == 2
    assert f"{pairs.at[0, 'gap']:.2f} apart" in texts(figure)
    drawn(figure)
