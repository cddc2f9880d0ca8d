"""The competition: every number is written, and every pair is shown with its scores."""

import numpy as np
import pytest
from PIL import Image
from support.figures import drawn, texts

from liqe_core.figures import gmad
from liqe_core.studies import gmad as study
from liqe_core.studies.gmad import attack_resistance, compete


def written(matrix):
    return ["·" if np.isnan(v) else f"{v:.0f}".replace("-", "−") for v in matrix.to_numpy().ravel()]


@pytest.mark.parametrize(("preference", "least"), [(40.0, 0), (-30.0, -100)])
def test_every_number_is_written_and_a_negative_attack_has_a_diverging_scale(scores, preference, least):
    pairs = compete(scores, levels=3)
    attack, resistance, ranking = attack_resistance(pairs, dict.fromkeys(pairs.index, preference))
    figure = gmad.attack_resistance_figure(ranking, attack, resistance)
    order = list(ranking.index)
    assert [t.get_text() for t in figure.axes[0].texts] == written(attack.loc[order, order])
    assert [t.get_text() for t in figure.axes[2].get_yticklabels()] == order
    assert figure.axes[0].get_images()[0].get_clim() == (least, 100)
    assert figure.axes[1].get_images()[0].get_clim() == (0, 100)
    drawn(figure)


def test_verdicts_are_counted_and_their_interval_written(scores):
    pairs = compete(scores, levels=4)
    judged = study.who_was_right(pairs, study.preference(pairs, scores["ours"]))
    table = study.how_often_right(judged)
    figure = gmad.verdicts_figure(table)
    ours = table.set_index(["side", "scorer"]).loc[("attacker", "ours")]
    assert ours["share"] == 1, "the judge is ours"
    assert f"100% ({ours['low']:.0%} to 100%)" in texts(figure)
    lengths = [sum(bar.get_width() for bar in figure.axes[0].patches)]
    assert lengths == [table.loc[table["side"] == "attacker", "pairs"].sum()]
    drawn(figure)


def test_pair_grid_shows_every_pair_with_its_scores_and_who_was_right(scores, images):
    pairs = compete(scores, ["ours", "theirs"])
    figure = gmad.pair_grid(pairs, images)
    assert len(figure.axes) == 2 * len(pairs)
    first = pairs.iloc[0]
    assert "ours fixed at low\nattacked by theirs" in texts(figure)
    assert f"theirs {first['attacker_better']:.2f}  ·  ours {first['defender_better']:.2f}" in texts(figure)
    shown = figure.axes[0].get_images()[0].get_array()
    with Image.open(images.set_index("image").at[first["better"], "file"]) as better:
        assert tuple(shown[0, 0]) == better.getpixel((0, 0))
    assert drawn(figure).std() > 0
    pairs["right"] = ["attacker", "defender", "neither", "attacker"]
    judged = texts(gmad.pair_grid(pairs, images))
    assert "ours fixed at high\nattacked by theirs\npeople say: defender" in judged


def test_pair_grid_reports_a_level_without_a_pair(scores, images):
    pairs = compete(scores, ["ours", "theirs"])
    pairs.loc[1, "reason"] = "no image at this level"
    figure = gmad.pair_grid(pairs, images)
    assert "no pair: no image at this level" in texts(figure).replace("\n", " ")
    drawn(figure)
    with pytest.raises(KeyError, match=pairs.at[0, "better"]):
        gmad.pair_grid(pairs, images[:0])
    with pytest.raises(ValueError, match="no pairs"):
        gmad.pair_grid(pairs[:0], images)
