"""The competition: every number is written."""

import numpy as np
from support.figures import drawn, texts

from liqe_core.figures import gmad
from liqe_core.studies.gmad import (
    attack_resistance,
    compete,
    disagreement,
    how_often_right,
    preference,
    who_was_right,
)


def written(matrix):
    return ["·" if np.isnan(v) else f"{v:.0f}" for v in matrix.to_numpy().ravel()]


def test_without_a_judge_the_figure_is_called_disagreement(scores):
    apart = disagreement(compete(scores, levels=3))
    figure = gmad.disagreement_figure(apart)
    assert [t.get_text() for t in figure.axes[0].texts] == written(apart)
    said = texts(figure).lower()
    assert "disagreement: nobody has judged" in said and "attack" not in said and "resist" not in said
    drawn(figure)


def test_attack_resistance_figure_writes_every_number(scores):
    pairs = compete(scores, levels=3)
    competition = attack_resistance(pairs, dict.fromkeys(pairs.index, 40.0))
    figure = gmad.attack_resistance_figure(competition)
    order = list(competition.ranking.index)
    assert [t.get_text() for t in figure.axes[0].texts] == written(competition.attack.loc[order, order])
    assert [t.get_text() for t in figure.axes[2].get_yticklabels()] == order
    drawn(figure)


def test_a_negative_attack_has_a_diverging_scale(scores):
    pairs = compete(scores, levels=2)
    figure = gmad.attack_resistance_figure(attack_resistance(pairs, dict.fromkeys(pairs.index, -30.0)))
    assert figure.axes[0].get_images()[0].get_clim() == (-100, 100)
    assert figure.axes[1].get_images()[0].get_clim() == (0, 100)
    assert "−30" in texts(figure)
    drawn(figure)


def test_verdicts_are_counted_and_their_interval_written(scores):
    pairs = compete(scores, levels=4)
    judged = who_was_right(pairs, preference(pairs, scores["ours"]))
    table = how_often_right(judged)
    figure = gmad.verdicts_figure(table)
    ours = table.set_index(["side", "scorer"]).loc[("attacker", "ours")]
    assert ours["share"] == 1, "the judge is ours"
    assert f"100% ({ours['low']:.0%} to 100%)" in texts(figure)
    lengths = [sum(bar.get_width() for bar in figure.axes[0].patches)]
    assert lengths == [table.loc[table["side"] == "attacker", "pairs"].sum()]
    drawn(figure)
