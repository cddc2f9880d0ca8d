"""The ideas, drawn: every word and number is there, and nothing is cut off."""

import pandas as pd
import pytest
from support.figures import drawn

from liqe_core.figures.concepts import joints, losses_of_a_pair


def test_a_joint_distribution_has_its_marginals_beside_it():
    table = pd.DataFrame([[0.4, 0.1], [0.2, 0.3]], ["bad", "good"], ["blur", "noise"])
    both = pd.concat({"a": table, "b": table / 2}, names=["which", "quality"]).reset_index()
    figure = joints(both, {"a": "one", "b": "two"})
    middle, above, beside = figure.axes[:3]
    assert [bar.get_height() for bar in above.patches] == pytest.approx([0.6, 0.4])
    assert [bar.get_width() for bar in beside.patches] == pytest.approx([0.5, 0.5])
    assert [text.get_text() for text in middle.texts] == ["0.40", "0.10", "0.20", "0.30"]
    assert len(figure.axes) == 6 and drawn(figure).std() > 5


def test_a_loss_has_its_value_and_the_size_of_its_gradient():
    fidelity = pd.DataFrame(
        {"difference": [-1.0, 1.0], "loss": "fidelity", "value": [0.6, 0.1], "gradient": [-0.3, -0.1]}
    )
    cross_entropy = fidelity.assign(loss="cross-entropy", value=[2.0, 0.2])
    figure = losses_of_a_pair(pd.concat([fidelity, cross_entropy]))
    value_ax, gradient_ax = figure.axes
    assert [line.get_label() for line in value_ax.lines[:2]] == ["fidelity", "cross-entropy"]
    assert gradient_ax.lines[0].get_ydata().tolist() == [0.3, 0.1]
    assert drawn(figure).std() > 5
