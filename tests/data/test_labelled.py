import numpy as np
import pandas as pd
import pytest
from support.data import SAMPLES, needs_samples, own_set

from liqe_core.crops import CropGeometry
from liqe_core.data.labelled import LabelledImages, packed_set
from liqe_core.data.presence import MissingImagesError


@needs_samples
def test_a_public_split_without_val_gets_one():
    biq = packed_set("biq2021", root=SAMPLES, progress=False)
    public = set(biq.table.loc[biq.table["session_1"] == "test", "image"])
    assert len(public) == 60
    for session in (1, 7):
        assert len(biq.part(session, "train")) == 216 and len(biq.part(session, "val")) == 24
        assert set(biq.table["image"].iloc[biq.part(session, "test")]) == public
    assert set(biq.part(1, "val")) != set(biq.part(2, "val"))


def test_a_users_dataset_gets_ten_splits(tmp_path):
    manifest = own_set(tmp_path, count=10)
    mine = packed_set(manifest.path, progress=False)
    assert [len(mine.part(3, part)) for part in ("train", "val", "test")] == [7, 1, 2]
    pixels = np.array(mine.images[5])
    (manifest.folder() / "p004.png").unlink()
    with pytest.raises(MissingImagesError, match=r"1 of 10 .*p004"):
        packed_set(manifest, progress=False)
    smaller = packed_set(manifest, missing="skip", progress=False)
    assert len(smaller) == 9 and "p004.png" not in set(smaller.table["image"])
    np.testing.assert_array_equal(smaller.images[4], pixels)
    # The others stay in the parts they were in.
    whole = mine.table.set_index("image")["session_5"]
    assert (smaller.table.set_index("image")["session_5"] == whole.drop("p004.png")).all()


def test_a_part_is_thinned_by_chance_and_always_alike():
    sides = ["train"] * 40 + ["val"] * 30 + ["test"] * 30
    table = pd.DataFrame({"image": [f"{i}.png" for i in range(100)], "session_1": sides})
    table["session_2"] = sides[::-1]
    whole = LabelledImages("own", table, [np.zeros((32, 32, 3), np.uint8)] * 100)
    thin = whole.thinned(10)
    for session in (1, 2):
        assert (thin.part(session, "train") == whole.part(session, "train")).all()
        for part in ("val", "test"):
            assert len(thin.part(session, part)) == 10
            assert set(thin.part(session, part)) < set(whole.part(session, part))
    assert thin.part(1, "test").tolist() != whole.part(1, "test")[:10].tolist(), "not the first ones"
    assert whole.thinned(10).table.equals(thin.table) and whole.thinned(30).table.equals(table)
    assert len(whole.part(1, "test")) == 30, "the dataset itself is unchanged"


def test_a_varied_set_is_seen_at_any_size_and_now_and_then_in_grey():
    """Training draws anew each time, testing draws once for all; the stored images stay as they are."""
    colored = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
    table = pd.DataFrame({"image": [f"{i}.png" for i in range(40)], "session_1": ["train"] * 40})
    geometry = CropGeometry(window=32, resize_to=None, stride=8)
    varied = LabelledImages("own", table, [colored] * 40, any_size=True, grey=np.array([0.0, 1.0] * 20))

    def grey(crops):
        return bool((crops[:, 0] == crops[:, 1]).all() and (crops[:, 0] == crops[:, 2]).all())

    tested = [varied.testing_crops(row, geometry) for row in range(40)]
    assert [grey(crops) for crops in tested] == [False, True] * 20
    assert all((varied.testing_crops(row, geometry) == tested[row]).all() for row in range(40))
    rng, larger = np.random.default_rng(1), CropGeometry(window=400, resize_to=None)
    assert len(varied.training_crops(0, larger, 3, rng)) == 3, "no image without a crop"
    assert len({len(varied.testing_crops(row, larger)) for row in range(9)}) > 1, "of any size"
    assert len({varied.training_crops(0, geometry, 1, rng)[0].float().std().item() for _ in range(9)}) == 9
