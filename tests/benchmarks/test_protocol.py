"""What the rest of the protocol costs."""

import pytest
from support.training import small_set

from liqe_core.benchmarks import protocol


def test_the_tree_grows_with_prefixes_not_prompts():
    table = protocol.trie_cost((50, 495, 5_000)).set_index("prompts")
    assert table["padded_tokens"].to_dict() == {50: 50 * 77, 495: 38_115, 5_000: 385_000}
    assert table.loc[495, "tree_nodes"] == 2_203  # as counted when the project was designed
    assert (table["packed_tokens"] >= table["tree_nodes"]).all()
    assert (table["times_fewer"] > 12).all()


def test_ten_sessions_by_hand():
    table = protocol.ten_sessions(0.5, 0.01, 5.0, 1.6).set_index("way")
    assert table.loc["ours", "training_hours"] == pytest.approx(10 * 16_000 * 0.5 / 3600)
    assert table.loc["public", "training_hours"] == pytest.approx(10 * 16_000 * 5 / 3600)
    assert table.loc["ours", "evaluation_hours"] == pytest.approx(
        10 * (80 * 2359.1 + 4 * 4718.2) * 0.01 / 3600
    )
    assert table.loc["public", "evaluation_hours"] == pytest.approx(10 * 80 * 7077.3 * (0.01 + 0.1) / 3600)


def test_loader_throughput_counts_batches(tmp_path):
    table = protocol.loader_throughput([small_set(tmp_path)], 0.5, 6, 2, window=32, batches=3)
    row = table.iloc[0]
    assert row["consumed_per_second"] == 2
    assert row["times_enough"] == pytest.approx(row["batches_per_second"] / 2)
