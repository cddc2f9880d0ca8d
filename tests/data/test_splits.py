import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageEnhance
from support.data import own_set, write_image

from liqe_core.data import splits
from liqe_core.data.labels import read_labels
from liqe_core.data.splits import SESSION_COLUMNS, near_duplicates, random_sessions, with_validation
from liqe_core.images import ImageError


def test_random_sessions_keep_a_reference_together(tmp_path):
    table = read_labels(own_set(tmp_path, count=20))
    table["reference"] = [f"r{i // 2}" for i in range(20)]
    split = random_sessions(table, seed=1)
    for session in SESSION_COLUMNS:
        assert split.groupby("reference")[session].nunique().max() == 1
        assert split[session].value_counts().to_dict() == {"train": 14, "val": 2, "test": 4}
    assert (split["session_1"] != split["session_2"]).any()
    pd.testing.assert_frame_equal(split, random_sessions(table, seed=1))


def test_neighbours_stay_together():
    names = [f"{album}/s1 ({number}).jpg" for album in "ab" for number in range(1, 61)]
    table = pd.DataFrame({"image": names, "reference": None})
    split = splits.by_neighbours(table, run=5, fractions=(0.5, 0.25, 0.25))
    album, number = table["image"].str[0], table["image"].str.extract(r"\((\d+)\)")[0].astype(int)
    for session in SESSION_COLUMNS:
        assert split.groupby([album, number // 5])[session].nunique().max() == 1
        assert split[session].value_counts(normalize=True)["test"] == pytest.approx(0.25, abs=0.05)
    assert (split["session_1"] != split["session_2"]).any() and split["reference"].isna().all()
    assert len(split.groupby("session_1")) == 3
    with pytest.raises(ValueError, match=r"beach\.jpg"):
        splits.by_neighbours(pd.DataFrame({"image": ["1.jpg", "beach.jpg"], "reference": None}))


def test_a_val_part_is_held_back_from_a_public_split(tmp_path):
    table = read_labels(own_set(tmp_path, count=20))
    table["session_1"] = ["train"] * 16 + ["test"] * 4
    split = with_validation(table)
    for session in SESSION_COLUMNS:
        assert split[session].value_counts().to_dict() == {"train": 14, "val": 2, "test": 4}
        assert (split[session][16:] == "test").all()
    assert len({tuple(split[session]) for session in SESSION_COLUMNS}) == 10
    table["reference"] = [f"r{i // 4}" for i in range(20)]
    together = with_validation(table)
    assert together.groupby("reference")["session_2"].nunique().max() == 1
    with pytest.raises(ValueError, match="training"):
        with_validation(table[16:])


def test_correlations_by_hand():
    a = np.array([[0.0, 100.0], [0.0, 100.0]])
    b = np.array([[0.0, 0.0], [100.0, 100.0]])
    flat = np.full((2, 2), 7.0)
    vectors = splits.correlations(np.stack([a, 50 + a / 2, 100 - a, b, flat]))
    # Brighter and paler is the same image (1), a negative is its opposite (-1), columns and rows have
    # nothing in common (0), and an image of one grey is like nothing, itself included (0).
    wanted = [[1, 1, -1, 0, 0], [1, 1, -1, 0, 0], [-1, -1, 1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 0, 0]]
    np.testing.assert_allclose(vectors @ vectors.T, wanted, atol=1e-6)


def test_a_thumbnail_is_the_mean_of_its_pixels(tmp_path):
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[:32, :32] = 200
    Image.fromarray(pixels).save(tmp_path / "a.png")
    small = splits.thumbnails([tmp_path / "a.png"], 2, progress=False)
    assert small.tolist() == [[[200, 0], [0, 0]]]
    with pytest.raises(ImageError, match=r"b\.png"):
        splits.thumbnails([tmp_path / "b.png"], progress=False)


def test_near_duplicates_are_listed_best_first_and_can_be_left_out(tmp_path):
    """Twelve images; two of the test part are images of the training part, one of them brightened and
    saved as a poor JPEG; a black one lies in both parts."""
    rows = []
    for i in range(12):
        write_image(tmp_path / f"p{i:02}.png", 128, 96, seed=i)
        rows.append((f"p{i:02}.png", i / 12, "train" if i < 6 else "val" if i < 8 else "test"))
    image = Image.open(tmp_path / "p01.png")
    ImageEnhance.Brightness(image).enhance(0.7).save(tmp_path / "p09.jpg", quality=20)
    rows[9] = ("p09.jpg", 0.5, "test")
    (tmp_path / "p10.png").write_bytes((tmp_path / "p04.png").read_bytes())
    for i in (5, 11):
        Image.new("RGB", (128, 96), (3, 3, 3)).save(tmp_path / f"p{i:02}.png")
    table = pd.DataFrame(rows, columns=["image", "mos", "session_1"])
    pairs = near_duplicates(table, tmp_path, progress=False)
    assert list(pairs["image"]) == ["p10.png", "p09.jpg"] and list(pairs["other"]) == ["p04.png", "p01.png"]
    assert list(pairs["part"]) == ["test", "test"] and list(pairs["other_part"]) == ["train", "train"]
    assert pairs["correlation"][0] == pytest.approx(1, abs=1e-6) and 0.99 <= pairs["correlation"][1] < 1
    assert (pairs["mos"][1], pairs["other_mos"][1]) == (0.5, 1 / 12)
    assert near_duplicates(table[8:], tmp_path, progress=False).empty
    clean = splits.without_near_duplicates(table, pairs)
    assert clean["session_1"].value_counts().to_dict() == {"train": 6, "val": 2, "test": 2}
    assert near_duplicates(clean, tmp_path, progress=False).empty
    assert table["session_1"].value_counts()["test"] == 4, "the argument is not modified"
