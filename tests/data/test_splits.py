import pandas as pd
import pytest
from support.data import own_set

from liqe_core.data.labels import read_labels
from liqe_core.data.splits import SESSION_COLUMNS, by_neighbours, random_sessions, with_validation


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


def test_neighbours_stay_together():
    names = [f"{album}/s1 ({number}).jpg" for album in "ab" for number in range(1, 61)]
    table = pd.DataFrame({"image": names, "reference": None})
    split = by_neighbours(table, run=5, fractions=(0.5, 0.25, 0.25))
    album, number = table["image"].str[0], table["image"].str.extract(r"\((\d+)\)")[0].astype(int)
    for session in SESSION_COLUMNS:
        assert split.groupby([album, number // 5])[session].nunique().max() == 1
        assert split[session].value_counts(normalize=True)["test"] == pytest.approx(0.25, abs=0.05)
    assert (split["session_1"] != split["session_2"]).any() and split["reference"].isna().all()
    assert len(split.groupby("session_1")) == 3
    with pytest.raises(ValueError, match=r"'beach\.jpg' has no number"):
        by_neighbours(pd.DataFrame({"image": ["1.jpg", "beach.jpg"], "reference": None}))


def test_a_val_part_is_held_back_from_a_public_split(tmp_path):
    table = read_labels(own_set(tmp_path, count=20))
    table["session_1"] = ["train"] * 16 + ["test"] * 4
    split = with_validation(table, fraction=0.25, seed=3)
    for session in SESSION_COLUMNS:
        assert split[session].value_counts().to_dict() == {"train": 12, "val": 4, "test": 4}
        assert (split[session][16:] == "test").all()
    assert len({tuple(split[session]) for session in SESSION_COLUMNS}) == 10
    table["reference"] = [f"r{i // 4}" for i in range(20)]
    together = with_validation(table, fraction=0.25)
    assert together.groupby("reference")["session_2"].nunique().max() == 1
    with pytest.raises(ValueError, match="between 0 and 1"):
        with_validation(table, fraction=1.0)
    with pytest.raises(ValueError, match="no training part"):
        with_validation(table[16:])
