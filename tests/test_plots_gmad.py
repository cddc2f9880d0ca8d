import io

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from liqe_core import plots_gmad
from liqe_core.gmad import attack_resistance, compete
from liqe_core.realign import curve_points, realign, same_score_pairs


@pytest.fixture(scope="module")
def scores():
    rng = np.random.default_rng(0)
    quality = rng.uniform(size=200)
    noisy = {name: quality + 0.3 * rng.normal(size=200) for name in ("ours", "theirs", "third")}
    return pd.DataFrame(noisy, index=[f"{i}.png" for i in range(200)])


@pytest.fixture(scope="module")
def paths(scores, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for i, name in enumerate(scores.index):
        Image.new("RGB", (40 + i % 7, 30), (i, 255 - i, 90)).save(folder / name)
    return {name: folder / name for name in scores.index}


@pytest.fixture(scope="module")
def realigned():
    x = np.linspace(1, 5, 120)
    sets = {"straight": 20 * x, "bent": 1 / (1 + np.exp(3.5 - x)), "broken": -x}
    frames = [pd.DataFrame({"dataset": name, "mos": y, "prediction": x}) for name, y in sets.items()]
    return realign(pd.concat(frames, ignore_index=True))


def texts(figure):
    return " | ".join(t.get_text() for t in figure.findobj(lambda artist: hasattr(artist, "get_text")))


def drawn(figure):
    """The figure as an array of pixels, after checking that it can be saved and that pyplot holds nothing."""
    figure.savefig(io.BytesIO(), format="svg")
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=50)
    assert plt.get_fignums() == []
    return np.asarray(Image.open(file).convert("RGB"))


def test_pair_grid_shows_every_pair_with_its_scores(scores, paths):
    pairs = compete(scores, ["ours", "theirs"])
    figure = plots_gmad.pair_grid(pairs, paths)
    assert len(figure.axes) == 2 * len(pairs)
    first = pairs.iloc[0]
    assert "ours fixed at low\nattacked by theirs" in texts(figure)
    assert f"theirs {first['attacker_better']:.2f}  ·  ours {first['defender_better']:.2f}" in texts(figure)
    shown = figure.axes[0].get_images()[0].get_array()
    assert (shown[0, 0] == np.asarray(Image.open(paths[first["better"]]))[0, 0]).all()
    assert drawn(figure).std() > 0


def test_pair_grid_without_a_pair_or_a_readable_picture_says_so(scores, paths, tmp_path):
    pairs = compete(scores, ["ours", "theirs"])
    pairs.loc[1, "reason"] = "no image at this level"
    (tmp_path / "cut.png").write_bytes(b"not a picture")
    figure = plots_gmad.pair_grid(pairs, paths | {pairs.at[0, "better"]: tmp_path / "cut.png"})
    said = texts(figure).replace("\n", " ")
    assert "no pair: no image at this level" in said
    assert f"{pairs.at[0, 'better']} cannot be drawn" in said
    drawn(figure)
    with pytest.raises(KeyError, match=pairs.at[0, "better"]):
        plots_gmad.pair_grid(pairs, {})
    with pytest.raises(ValueError, match="no pairs"):
        plots_gmad.pair_grid(pairs[:0], paths)


def test_attack_resistance_figure_writes_every_number(scores):
    competition = attack_resistance(compete(scores, levels=3))
    figure = plots_gmad.attack_resistance_figure(competition)
    cells = [t.get_text() for t in figure.axes[0].texts]
    order = list(competition.ranking.index)
    expected = competition.attack.loc[order, order].to_numpy().ravel()
    assert cells == ["·" if np.isnan(v) else f"{v:.0f}" for v in expected]
    assert [t.get_text() for t in figure.axes[2].get_yticklabels()] == order
    drawn(figure)


def test_a_negative_attack_has_a_diverging_scale(scores):
    pairs = compete(scores, levels=2)
    figure = plots_gmad.attack_resistance_figure(attack_resistance(pairs, dict.fromkeys(pairs.index, -30.0)))
    assert figure.axes[0].get_images()[0].get_clim() == (-100, 100)
    assert figure.axes[1].get_images()[0].get_clim() == (0, 100)
    assert "−30" in texts(figure)
    drawn(figure)


def test_realignment_figures_show_every_set(realigned):
    points = curve_points(realigned)
    panels = plots_gmad.realignment_panels(realigned.scores, points, most=50)
    assert len(panels.axes) == 2 * 3
    assert "no curve" in texts(panels), "the set that could not be aligned"
    assert max(len(c.get_offsets()) for axes in panels.axes for c in axes.collections) <= 50
    drawn(panels)
    overview = plots_gmad.realignment_overview(realigned.curves, points)
    assert [t.get_text() for t in overview.axes[1].get_yticklabels()] == ["naive", "straight", "bent"]
    assert f"stretch {realigned.curves.at['bent', 'stretch']:.2f}" in texts(overview)
    tenths = overview.axes[1].collections[1].get_offsets()
    assert np.asarray(tenths)[:, 0] == pytest.approx(np.linspace(1.4, 4.6, 9), abs=0.05), (
        "a straight set lands naively"
    )
    drawn(overview)


def test_same_score_grid(realigned, paths):
    pairs = same_score_pairs(realigned.scores, tolerance=0.02)
    names = dict(zip([*pairs["better"], *pairs["worse"]], paths.values(), strict=False))
    figure = plots_gmad.same_score_grid(pairs, names)
    assert len(figure.axes) == 2 * len(pairs) == 2
    assert f"{pairs.at[0, 'gap']:.2f} apart" in texts(figure)
    drawn(figure)
