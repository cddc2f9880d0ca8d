"""Figures of ablations: the drawing equals the data frame."""

import numpy as np
import pandas as pd
from matplotlib.collections import LineCollection, PathCollection
from support.figures import drawn

from liqe_core.figures import ablations
from liqe_core.studies.ablations import STUDIES, compare, paired

STUDY = STUDIES["variant"]


def dots(axes):
    """Where its dots are, to three digits and the row."""
    offsets = [c.get_offsets() for c in axes.collections if isinstance(c, PathCollection)]
    return {(round(float(x), 3), round(y)) for x, y in np.concatenate(offsets)}


def test_ablation_draws_every_run_and_reports_missing_ones():
    rows = [(v, 1, s, m) for v, m in zip(STUDY.levels[:2], (0.2, 0.4), strict=True) for s in (1, 2)]
    scores = pd.DataFrame(rows, columns=["level", "session", "seed", "value"]).assign(run="x")
    differences = paired(scores, STUDY)
    table = compare(scores, STUDY)
    table["paper"] = [0.915, *[np.nan] * (len(table) - 1)]
    figure = ablations.ablation(table, scores, differences, STUDY.reference)
    values_ax, differences_ax = figure.axes
    assert {(0.2, 0), (0.4, 1), (0.915, 0)} <= dots(values_ax)
    assert dots(differences_ax) == {(0.2, 1)} and "too few" in differences_ax.get_xlabel()
    assert [text.get_text() for text in values_ax.texts] == ["no finished run"] * 2
    assert differences_ax.get_xlabel().startswith("minus quality, same seeds")
    drawn(figure)


def test_an_interval_is_drawn_if_it_exists():
    rng = np.random.default_rng(0)
    rows = [(v, 1, s, rng.normal(0.5, 0.1)) for v in STUDY.levels[:2] for s in range(8)]
    scores = pd.DataFrame(rows, columns=["level", "session", "seed", "value"]).assign(run="x")
    table = compare(scores, STUDY)
    figure = ablations.ablation(table, scores, paired(scores, STUDY), STUDY.reference)
    differences_ax = figure.axes[1]
    lines = [c for c in differences_ax.collections if isinstance(c, LineCollection)]
    (bar,) = [line for line in lines if len(line.get_segments())]
    np.testing.assert_allclose(bar.get_segments()[0][:, 0], table.loc[1, ["low", "high"]].astype(float))
    assert "too few" not in differences_ax.get_xlabel() and len(dots(differences_ax)) == 8
    drawn(figure)


def test_loss_weights_omit_missing_tasks():
    epochs = pd.DataFrame({"level": ["quality"] * 2 + ["quality+scene"] * 2, "run": [*"aabb"]})
    epochs = epochs.assign(epoch=[0, 1, 0, 1], quality_weight=[1, 1, 1, 1.2])
    epochs["scene_weight"] = [np.nan, np.nan, 1, 0.8]
    figure = ablations.loss_weights(epochs, STUDY.levels)
    drawn(figure)
    assert [len(ax.get_legend_handles_labels()[1]) for ax in figure.axes] == [1, 2]
    (legend,) = figure.legends
    assert [t.get_text() for t in legend.get_texts()] == ["quality", "scene"], "each label appears once"
    np.testing.assert_allclose(figure.axes[1].lines[-1].get_ydata(), [1, 0.8])
