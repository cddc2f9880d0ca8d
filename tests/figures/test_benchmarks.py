"""What was measured is drawn, and what was not is told."""

import pandas as pd
import pytest
from support.figures import drawn, texts

from liqe_core.figures import benchmarks


def test_figures_draw_what_was_measured_and_tell_what_was_not():
    measured = pd.DataFrame({"best_seconds": [2.0], "floor_seconds": [1.5], "peak_gb": [3.0]}, index=[1])
    table = pd.DataFrame({"way": ["padded", "tree"], "images": [6, 48], "crops": 3})
    table = table.assign(gradient_checkpointing=[False, True]).join(measured)
    figure = benchmarks.step_bars(table)
    drawn(figure)
    time, memory = figure.axes
    assert [bar.get_width() for bar in time.patches] == [0, 2.0]
    assert [text.get_text() for text in memory.texts] == [" no memory for it", " 3"]
    assert [label.get_text() for label in time.get_yticklabels()][1] == "tree, 48 x 3, checkpointed"
    half = table.assign(precision=["float32", "float16"], compile=[False, True])
    drawn(benchmarks.step_bars(half))
    names = [label.get_text() for label in benchmarks.step_bars(half).axes[0].get_yticklabels()]
    assert names == ["padded, 6 x 3", "tree, 48 x 3, float16, checkpointed, compiled"]
    trie = pd.DataFrame({"prompts": [5, 50], "padded_tokens": [9, 90], "packed_tokens": [3, 30]})
    trie["tree_nodes"] = [2, 20]
    (axes,) = benchmarks.trie_growth(trie).axes
    assert [list(line.get_ydata()) for line in axes.lines] == [[9, 90], [3, 30], [2, 20]]


def test_every_weight_is_stuck_or_moves():
    sizes = pd.DataFrame({"exponent": [-8, -7, -6], "share": [0.2, 0.3, 0.5]})
    sizes["half_spacing"] = [2**-19, 2**-18, 2**-17]
    kinds = pd.DataFrame({"stuck": [0.5, 0.1], "stuck_at_part": [0.8, 0.4]}, index=["MLP", "patches"])
    figure = benchmarks.what_can_move(sizes, kinds, 5e-6, 3e-6)
    sizes_ax, kinds_ax = figure.axes
    assert len({bar.get_facecolor() for bar in sizes_ax.patches}) == 3, "one size of each"
    assert [bar.get_width() for bar in kinds_ax.patches] == pytest.approx([0.5, 0.1, 0.3, 0.3, 0.2, 0.6])
    words = texts(figure)
    assert "50%" in words and "stuck at 5.0e-06" in words and "moves at 3.0e-06" in words
    assert drawn(figure).std() > 5
