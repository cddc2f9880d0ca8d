"""A figure is kept as tables and keywords, and comes back as it was."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from liqe_core.figures.data_sets import contact_sheet
from liqe_core.figures.saving import Drawing, drawing, find, image_table, read, save, save_table
from liqe_core.figures.training import agreement
from liqe_core.images import ImageError, ImageNotFoundError


def saved(table, folder, **keywords):
    Drawing("", {"table": table}, keywords).write(folder, "kept")
    return read(folder / "kept.json")


COLUMNS = [
    [1, 2],
    np.array([0.1, np.nan]),
    np.array([1 / 3, 5e-324], np.float32),
    [True, False],
    pd.array([True, None], "boolean"),
    pd.array([3, None], "Int64"),
    ["NA", "nan"],
    ["", "two\nlines"],
    ["1", None],
]
LETTERS = pd.MultiIndex.from_tuples([("a", 1), ("a", 2)], names=["letter", None])
INDICES = [pd.Index(["x", "y"], name="name"), pd.Index([3, 1]), LETTERS]


@pytest.mark.parametrize(
    "table",
    [*(pd.DataFrame({"a": c, "b": 1}) for c in COLUMNS), *(pd.DataFrame({"a": 0.5}, i) for i in INDICES)],
    ids=repr,
)
def test_a_table_comes_back_as_it_was(tmp_path, table):
    pd.testing.assert_frame_equal(saved(table, tmp_path).table, table)


def test_an_object_column_is_saved_with_its_type(tmp_path):
    assert saved(pd.DataFrame({"none": [None, None]}), tmp_path).table["none"].isna().all()


def test_data_that_cannot_be_saved_is_rejected(tmp_path):
    with pytest.raises(TypeError, match="column pair"):
        save_table(pd.DataFrame({"pair": [(1, 2)]}), tmp_path, "table")
    with pytest.raises(TypeError, match="column level"):
        save_table(pd.DataFrame({"level": pd.Categorical(["b", "a"])}), tmp_path, "table")
    with pytest.raises(TypeError, match="images"):
        save(contact_sheet([np.zeros((4, 4, 3))], ["black"]), tmp_path, "sheet")


def test_a_figure_is_saved_with_its_data(tmp_path):
    table = pd.DataFrame({"quality": [1.0, 2.0, 3.0], "mos": [1.5, 1.0, 3.5]})
    figure = agreement(table, title="three images")
    names = [path.name for path in save(figure, tmp_path, "agreement")]
    assert names == ["agreement.png", "agreement.svg", "agreement.csv", "agreement.json"]
    reread = read(find("agreement", tmp_path.parent))
    assert reread.function == "agreement" and reread.keywords == {"title": "three images"}
    first, second = tmp_path / "agreement.svg", tmp_path / "again.svg"
    save(reread.draw(), tmp_path, "again")
    assert first.read_bytes() == second.read_bytes(), "the same figure is the same bytes"
    (tmp_path / "agreement.json").write_text('{"function": ')
    with pytest.raises(ValueError, match=r"agreement\.json"):
        read(tmp_path / "agreement.json")


def test_images_are_read_again_from_their_folder(tmp_path):
    (tmp_path / "run" / "images").mkdir(parents=True)
    Image.new("RGB", (8, 6), "red").save(tmp_path / "run" / "images" / "red.png")
    images = image_table(["red.png"], tmp_path / "run" / "images")
    figure = contact_sheet(images, ["red"])
    save(figure, tmp_path / "run", "sheet")
    assert not json.loads((tmp_path / "run" / "sheet.json").read_text())["keywords"].get("images")
    (tmp_path / "run").rename(tmp_path / "moved")
    reread = read(tmp_path / "moved" / "sheet.json").draw()
    assert reread.axes[0].get_images()[0].get_array()[0, 0].tolist() == [255, 0, 0]
    file = tmp_path / "moved" / "images" / "red.png"
    file.rename(tmp_path / "red.png")
    with pytest.raises(ImageNotFoundError, match=r"red\.png.*--images"):
        read(tmp_path / "moved" / "sheet.json")
    read(tmp_path / "moved" / "sheet.json", images=tmp_path).draw()
    Image.new("RGB", (8, 6), "blue").save(tmp_path / "red.png")
    with pytest.raises(ImageError, match=r"red\.png"):
        read(tmp_path / "moved" / "sheet.json", images=tmp_path)


def test_rows_of_another_saved_table_are_drawn(tmp_path):
    table = pd.DataFrame({"dataset": ["a", "b", "b"], "quality": [1.0, 2.0, 3.0], "mos": [3.0, 2.0, 1.0]})
    table.to_csv(tmp_path / "kept.csv", index=False)
    described = {"file": "../kept.csv", "rows": {"dataset": ["b"]}, "index": [], "missing": []}
    described["types"] = {"quality": "float64", "mos": "float64"}
    content = {"function": "agreement", "keywords": {}, "tables": {"table": described}}
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "agreement.json").write_text(json.dumps(content))
    drawn_from = read(tmp_path / "figures" / "agreement.json").table
    pd.testing.assert_frame_equal(drawn_from, table.loc[1:, ["quality", "mos"]].reset_index(drop=True))


def test_the_uppermost_of_two_figures_of_a_name_is_found(tmp_path):
    for folder in ("train/run", "notebook"):
        save_table(pd.DataFrame({"a": [1]}), tmp_path / folder, "table")
    assert find("table", tmp_path) == tmp_path / "notebook" / "table.json"
    assert find("absent", tmp_path) is None


def test_two_figures_have_two_names():
    with pytest.raises(ValueError, match="training_curves"):
        drawing("training_curves", "concepts", "Another figure.")
