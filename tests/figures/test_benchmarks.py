"""What was measured is drawn, and what was not is told."""

import numpy as np
import pandas as pd

from liqe_core.figures import benchmarks

TINY = {
    "vision_cfg": {"image_size": 16, "patch_size": 8, "width": 10, "layers": 2},
    "text_cfg": {"width": 6, "layers": 3},
}


def test_figures_draw_what_was_measured_and_tell_what_was_not():
    table = pd.DataFrame(
        {
            "way": ["padded", "tree"],
            "pictures": [6, 48],
            "crops": 3,
            "gradient_checkpointing": [False, True],
            "best_seconds": [np.nan, 2.0],
            "floor_seconds": [np.nan, 1.5],
            "peak_gb": [np.nan, 3.0],
        }
    )
    time, memory = benchmarks.step_bars(table).axes
    assert [bar.get_width() for bar in time.patches] == [0, 2.0]
    assert [text.get_text() for text in memory.texts] == [" no memory for it", " 3"]
    assert [label.get_text() for label in time.get_yticklabels()][1] == "tree, 48 x 3, checkpointed"
    half = table.assign(precision=["float32", "float16"], compile=[False, True])
    names = [label.get_text() for label in benchmarks.step_bars(half).axes[0].get_yticklabels()]
    assert names == ["padded, 6 x 3", "tree, 48 x 3, float16, checkpointed, compiled"]
    trie = pd.DataFrame(
        {"prompts": [5, 50], "padded_tokens": [9, 90], "packed_tokens": [3, 30], "tree_nodes": [2, 20]}
    )
    (axes,) = benchmarks.trie_growth(trie).axes
    assert [list(line.get_ydata()) for line in axes.lines] == [[9, 90], [3, 30], [2, 20]]
