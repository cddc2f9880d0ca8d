"""Figures of the method: all words and numbers are drawn, and nothing is cut off."""

import numpy as np
import pandas as pd
import pytest
from support.figures import drawn

from liqe_core.figures.concepts import (
    losses_of_a_pair,
    overfitting,
    prefix_tree,
    similarity_and_marginals,
)


def test_losses_have_panels_of_value_and_gradient():
    fidelity = pd.DataFrame({"difference": [-1.0, 1.0], "value": [0.6, 0.1], "gradient": [-0.3, -0.1]})
    fidelity["loss"] = "fidelity"
    cross_entropy = fidelity.assign(loss="cross-entropy", value=[2.0, 0.2])
    figure = losses_of_a_pair(pd.concat([fidelity, cross_entropy]))
    value_ax, gradient_ax = figure.axes
    assert [line.get_label() for line in value_ax.lines[:2]] == ["fidelity", "cross-entropy"]
    assert gradient_ax.lines[0].get_ydata().tolist() == [0.3, 0.1]
    assert drawn(figure).std() > 5


def test_a_matrix_of_similarities_is_summed_into_its_marginals():
    words = {"quality": ["bad", "good"], "scene": ["cat", "dog", "cup"], "distortion": ["blur", "noise"]}
    table = pd.MultiIndex.from_product(words.values(), names=words).to_frame(index=False)
    probability = np.arange(12.0) / 66
    figure = similarity_and_marginals(table.assign(similarity=-probability, probability=probability))
    distortion, quality, scene, similarity, _, joint, _ = figure.axes
    array = probability.reshape(2, 3, 2)
    assert [bar.get_height() for bar in distortion.patches] == pytest.approx(array.sum(axis=(0, 1)))
    assert [bar.get_width() for bar in quality.patches] == pytest.approx(array.sum(axis=(1, 2)))
    assert [bar.get_width() for bar in scene.patches] == pytest.approx(array.sum(axis=(0, 2)))
    assert np.allclose(joint.images[0].get_array(), array.reshape(6, 2))
    assert np.allclose(similarity.images[0].get_array(), -array.reshape(6, 2))
    assert similarity.get_ylim() == joint.get_ylim() == quality.get_ylim(), "rows and bars are side by side"
    assert "good (0.77) and noise (0.55)" in figure.alt and drawn(figure).std() > 5


def test_memorising_starts_before_the_first_step():
    steps = pd.DataFrame({"step": [0, 1]})
    for task in ("quality", "scene", "distortion"):
        steps = steps.assign(**{f"{task}_loss": [0.5, 0.1], f"{task}_weight": [1.0, 1.0]})
    images = pd.DataFrame({"dataset": ["a", "a", "b"], "label": [1, 2, 1], "before": 3.0, "after": [1, 5, 2]})
    figure = overfitting(steps, images)
    losses, weights, quality = figure.axes
    assert losses.lines[0].get_xydata().tolist() == [[0, 0.5], [1, 0.1]] and len(weights.lines) == 3
    assert [len(dots.get_offsets()) for dots in quality.collections] == [2, 2, 1, 1]
    assert drawn(figure).std() > 5


def test_a_prefix_tree_has_an_edge_for_each_node_below_the_root():
    nodes = pd.DataFrame({"parent": [-1, 0, 1, 2, 1, 4], "word": ["start", "a", "cat", "end", "cup", "end"]})
    figure = prefix_tree(nodes)
    (ax,) = figure.axes
    words = {text.get_text(): text.get_position() for text in ax.texts}
    assert words["a"] == (0.5, 1) and words["cat"] == (0, 2) and words["cup"] == (1, 2)
    assert len(ax.lines) == 5
    assert "branches after: a." in figure.alt and "marked: start a cup end." in figure.alt
    assert drawn(figure).std() > 5
