"""Pictures side by side: every pair is shown with its scores."""

import numpy as np
import pytest
from PIL import Image
from support.figures import drawn, texts

from liqe_core.figures import pictures
from liqe_core.studies.gmad import compete
from liqe_core.studies.realign import same_score_pairs


def test_pair_grid_shows_every_pair_with_its_scores(scores, paths):
    pairs = compete(scores, ["ours", "theirs"])
    figure = pictures.pair_grid(pairs, paths)
    assert len(figure.axes) == 2 * len(pairs)
    first = pairs.iloc[0]
    assert "ours fixed at low\nattacked by theirs" in texts(figure)
    assert f"theirs {first['attacker_better']:.2f}  ·  ours {first['defender_better']:.2f}" in texts(figure)
    shown = figure.axes[0].get_images()[0].get_array()
    assert (shown[0, 0] == np.asarray(Image.open(paths[first["better"]]))[0, 0]).all()
    assert drawn(figure).std() > 0


def test_pair_grid_says_who_was_right_where_people_judged(scores, paths):
    pairs = compete(scores, ["ours", "theirs"])
    pairs["right"] = ["attacker", "defender", "neither", "attacker"]
    assert "ours fixed at high\nattacked by theirs\npeople say: defender" in texts(
        pictures.pair_grid(pairs, paths)
    )


def test_pair_grid_without_a_pair_or_a_readable_picture_says_so(scores, paths, tmp_path):
    pairs = compete(scores, ["ours", "theirs"])
    pairs.loc[1, "reason"] = "no image at this level"
    (tmp_path / "cut.png").write_bytes(b"not a picture")
    figure = pictures.pair_grid(pairs, paths | {pairs.at[0, "better"]: tmp_path / "cut.png"})
    said = texts(figure).replace("\n", " ")
    assert "no pair: no image at this level" in said
    assert f"{pairs.at[0, 'better']} cannot be drawn" in said
    drawn(figure)
    with pytest.raises(KeyError, match=pairs.at[0, "better"]):
        pictures.pair_grid(pairs, {})
    with pytest.raises(ValueError, match="no pairs"):
        pictures.pair_grid(pairs[:0], paths)


def test_same_score_grid(realigned, paths):
    pairs = same_score_pairs(realigned.scores, tolerance=0.02)
    names = dict(zip([*pairs["better"], *pairs["worse"]], paths.values(), strict=False))
    figure = pictures.same_score_grid(pairs, names)
    assert len(figure.axes) == 2 * len(pairs) == 2
    assert f"{pairs.at[0, 'gap']:.2f} apart" in texts(figure)
    drawn(figure)
