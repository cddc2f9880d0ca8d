"""The competition: every number is written."""

import numpy as np
from support.figures import drawn, texts

from liqe_core.figures import gmad
from liqe_core.studies.gmad import attack_resistance, compete


def test_attack_resistance_figure_writes_every_number(scores):
    competition = attack_resistance(compete(scores, levels=3))
    figure = gmad.attack_resistance_figure(competition)
    cells = [t.get_text() for t in figure.axes[0].texts]
    order = list(competition.ranking.index)
    expected = competition.attack.loc[order, order].to_numpy().ravel()
    assert cells == ["·" if np.isnan(v) else f"{v:.0f}" for v in expected]
    assert [t.get_text() for t in figure.axes[2].get_yticklabels()] == order
    drawn(figure)


def test_a_negative_attack_has_a_diverging_scale(scores):
    pairs = compete(scores, levels=2)
    figure = gmad.attack_resistance_figure(attack_resistance(pairs, dict.fromkeys(pairs.index, -30.0)))
    assert figure.axes[0].get_images()[0].get_clim() == (-100, 100)
    assert figure.axes[1].get_images()[0].get_clim() == (0, 100)
    assert "−30" in texts(figure)
    drawn(figure)
