import pandas as pd
import pytest
from data_support import own_set

from liqe_core.labels import SESSION_COLUMNS, read_labels
from liqe_core.splits import random_sessions


def test_random_sessions_keep_a_reference_together(tmp_path):
    table = read_labels(own_set(tmp_path, count=20))
    table["reference"] = [f"r{i // 2}" for i in range(20)]
    split = random_sessions(table, seed=1)
    for session in SESSION_COLUMNS:
        assert split.groupby("reference")[session].nunique().max() == 1
        assert split[session].value_counts().to_dict() == {"train": 14, "val": 2, "test": 4}
    assert (split["session_1"] != split["session_2"]).any()
    pd.testing.assert_frame_equal(split, random_sessions(table, seed=1))
    with pytest.raises(ValueError, match="sum to 1"):
        random_sessions(table, fractions=(0.5, 0.1, 0.1))
