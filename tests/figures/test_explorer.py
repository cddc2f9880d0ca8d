"""The explorer: its widgets answer to their values, and the figure shows the same."""

import datetime
import io
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from support.figures import drawn, texts

from liqe_core.figures import explorer as module
from liqe_core.figures.explorer import as_html, at_positions, explorer, in_words, someone_there
from liqe_core.figures.saving import image_table
from liqe_core.images import ImageError, read_image

AXES = {"quality": ["bad", "fair", "good"], "scene": ["sea", "sky"], "distortion": ["blur", "noise & <rain>"]}


def ask(image, positions):
    """The worse the more is turned up, with the name of the fault that is turned up most."""
    total = min(1, sum(positions.values()) / 10)
    quality = np.array([total, 0.0, 1 - total])
    distortion = [0.9, 0.1] if positions["blur"] >= positions["rain"] else [0.2, 0.8]
    p = np.einsum("q,s,d->qsd", quality, [0.6, 0.4], distortion).ravel()
    windows = pd.DataFrame({"y": [0, 4], "x": [0, 6], "side": [16, 16], "quality": [1.0, 3.0]})
    words = pd.MultiIndex.from_product(AXES.values(), names=list(AXES))
    return image, pd.Series(p, words, name="probability"), windows


def file_of(color, kind="PNG"):
    file = io.BytesIO()
    Image.new("RGB", (40, 30), color).save(file, kind)
    return file.getvalue()


def upload(name, content):
    """The message of the browser."""
    now = datetime.datetime(2023, 6, 1, tzinfo=datetime.UTC)
    file = {"name": name, "type": "image/png", "size": len(content), "last_modified": now}
    return ({**file, "content": memoryview(content)},)


def opened(source):
    return np.asarray(read_image(source))


def at(folder, seen):
    """The figure of the answers at several positions."""
    for name, (image, _, _) in seen.items():
        Image.fromarray(image).save(folder / f"{name}.png")
    joints = pd.concat({name: joint for name, (_, joint, _) in seen.items()}, names=["position"])
    windows = pd.concat([table.assign(position=name) for name, (_, _, table) in seen.items()])
    images = image_table([f"{name}.png" for name in seen], folder)
    return at_positions(joints.rename("probability").reset_index(), windows, images)


@pytest.fixture
def widgets():
    """The explorer, and its widgets by description; `answer` and `drawing` are the outputs."""
    images = {"red": Image.new("RGB", (40, 30), "red"), "cut": b"not an image"}
    everything, found = [explorer(images, opened, ask, ["blur", "rain"])], {}
    for widget in everything:
        everything += getattr(widget, "children", ())
        found[getattr(widget, "description", "")] = widget
    found["answer"], found["drawing"] = everything[0].children[-2:]
    return SimpleNamespace(**{name.replace(" ", "_"): widget for name, widget in found.items() if name})


def test_a_slider_moves_the_quality_and_turns_the_name(widgets):
    assert "quality 3.00 of 3, good (1.00); scene: sea (0.60)" in widgets.answer.value
    assert "distortion: blur (0.90)" in widgets.answer.value and "good" in widgets.drawing.value
    widgets.rain.value = 5
    assert "quality 2.00" in widgets.answer.value
    assert "noise &amp; &lt;rain&gt; (0.80)" in widgets.answer.value
    assert "bad, sea, noise &amp; &lt;rain&gt; (0.24)" in widgets.drawing.value, "0.5 x 0.6 x 0.8"
    widgets.blur.value = 5
    assert "quality 1.00 of 3, bad (1.00)" in widgets.answer.value


def test_my_own_photograph_is_uploaded_and_scored(widgets):
    before = widgets.drawing.value
    widgets.my_own_photograph.value = upload("mine.png", file_of("blue"))
    assert widgets.image.value == "mine.png" and widgets.image.options == ("mine.png", "red", "cut")
    after = widgets.drawing.value
    assert after != before and widgets.answer.value.startswith("quality")
    widgets.my_own_photograph.value = upload("mine.png", file_of("green"))
    assert widgets.drawing.value != after, "another file of the same name"


def test_a_file_that_is_too_large_is_reported(widgets, monkeypatch):
    monkeypatch.setattr("liqe_core.figures.explorer.MOST_UPLOADED", 1)
    widgets.my_own_photograph.value = upload("large.png", bytes(1_000_001))
    assert "large.png" in widgets.answer.value and "1 MB" in widgets.answer.value
    assert widgets.image.options == ("red", "cut"), "and cannot be chosen"


def test_an_invalid_image_is_reported_instead_of_the_answer(widgets):
    widgets.image.value = "cut"
    assert "image" in widgets.answer.value and widgets.drawing.value == ""
    widgets.rain.value = 3
    assert not widgets.answer.value.startswith("quality"), "no answer about the image before"
    widgets.image.value = "red"
    assert widgets.answer.value.startswith("quality")


def test_an_error_of_the_model_is_reported():
    def refuse(image, positions):
        raise ImageError("40 x 30 pixels, but one crop is <224>")

    box = explorer({"red": file_of("red")}, opened, refuse, ["blur"])
    assert box.children[-2].value == "40 x 30 pixels, but one crop is &lt;224&gt;"
    with pytest.raises(ValueError, match="no image to explore"):
        explorer({}, opened, ask, ["blur"])


def test_the_drawing_is_self_contained():
    page = as_html(ask(opened(file_of("red")), {"blur": 2, "rain": 0}))
    assert page.count('<img alt="') == 2 == page.count("data:image/png;base64,") and "http" not in page


def test_axes_without_words_are_left_out(tmp_path):
    image, joint, windows = ask(opened(file_of("red")), {"blur": 0, "rain": 0})
    quality = joint.groupby(level="quality", sort=False).sum()
    alone = pd.MultiIndex.from_product([quality.index, ["any"], ["any"]], names=list(AXES))
    seen = image, pd.Series(quality.to_numpy(), alone), windows
    assert in_words(seen) == "quality 3.00 of 3, good (1.00)"
    assert as_html(seen).count("<img") == 1, "no joint probability"
    drawn(at(tmp_path, {"as it is": seen}))


def test_the_figure_has_a_column_a_position(tmp_path):
    image = opened(file_of("red"))
    positions = {"as it is": {"blur": 0, "rain": 0}, "rain 5": {"blur": 0, "rain": 5}}
    figure = at(tmp_path, {name: ask(image, position) for name, position in positions.items()})
    assert "as it is\nquality 3.00" in texts(figure) and "rain 5\nquality 2.00" in texts(figure)
    panels = np.array(figure.axes[:-1]).reshape(4, 2)  # the last is the scale of the colours
    for row, axis in zip(panels[1:], AXES, strict=True):
        assert [label.get_text() for label in row[0].get_yticklabels()] == AXES[axis]
    assert [bar.get_width() for bar in panels[3, 1].patches] == pytest.approx([0.2, 0.8])
    frames = panels[0, 0].patches
    assert [frame.get_xy() for frame in frames] == [(0, 0), (0, 0), (6, 4), (6, 4)]
    assert frames[1].get_edgecolor() != frames[3].get_edgecolor(), "the colour is the window's quality"
    assert drawn(figure).std() > 5
    with pytest.raises(ValueError, match="no position"):
        at_positions(*[figure.drawing.table[:0]] * 3)


@pytest.mark.parametrize(
    ("history", "person"), [("/home/me/history.sqlite", True), (":memory:", False)], ids=["lab", "nbclient"]
)
def test_a_user_is_present_unless_nbclient_runs_the_notebook(monkeypatch, history, person):
    shell = SimpleNamespace(kernel=object(), history_manager=SimpleNamespace(hist_file=history))
    monkeypatch.setattr("IPython.get_ipython", lambda: shell)
    assert module.someone_there() is person


def test_no_user_is_present_outside_of_a_notebook():
    assert not someone_there()
