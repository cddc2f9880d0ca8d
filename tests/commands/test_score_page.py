"""``liqe score --html``: a page that needs no other file."""

import base64
import io
import re

import numpy as np
import pandas as pd
import pytest
import torch
from bs4 import BeautifulSoup
from PIL import Image

from liqe_core import LIQE, PromptGrid
from liqe_core.commands.main import main
from liqe_core.commands.score_files import SIDE, write_page
from liqe_core.images import read_image

NAMES = ['<img src=x onerror="alert(1)">.png', "b & c.png", "line\nbreak.png", "wide.png"]


@pytest.fixture
def page(tmp_path, monkeypatch):
    """The page of four images with unusual names and an invalid file, and the CSV of the same run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").mkdir()
    rng = np.random.default_rng(0)
    for i, name in enumerate(NAMES):
        pixels = rng.integers(0, 256, (40 + 30 * i, 200, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / name)
    (tmp_path / "images" / "none.png").write_text("no image")
    grid = PromptGrid(quality=["bad", "good"], scene=["sea", "<b>"], distortion=["blur", "noise"])
    torch.manual_seed(1)
    LIQE.from_clip("LIQE-smoke", pretrained=None, grid=grid).save(tmp_path / "m")
    assert main(["score", "images", "--checkpoint", "m", "--html", "page.html", "--csv", "t.csv"]) == 1
    return (tmp_path / "page.html").read_text(encoding="utf-8")


def rows(page):
    return BeautifulSoup(page, "html.parser").select("tbody tr")


def test_images_are_sorted_from_worst_to_best_with_the_values_of_the_table(page):
    table = pd.read_csv("t.csv").sort_values("quality", na_position="last")
    assert [row.find_all("td")[1]["data-v"] for row in rows(page)] == table["image"].tolist()
    for row, cells in zip(table.to_dict("records"), rows(page), strict=True):
        _, name, quality, scene, distortion = cells.find_all("td")
        assert name.get_text().startswith(row["image"])
        if "none.png" in row["image"]:
            assert "not an image" in name.get_text() and quality["data-v"] == "" == scene["data-v"]
        else:
            assert float(quality["data-v"]) == pytest.approx(row["quality"], abs=1e-6)
            assert quality.get_text() == f"{row['quality']:.3f}"
            assert scene.get_text() == f"{row['scene']} {row['scene_probability']:.2f}"
            assert distortion.get_text() == f"{row['distortion']} {row['distortion_probability']:.2f}"
    assert "none.png" in rows(page)[-1].get_text(), "images without a score are last"


def test_the_page_contains_thumbnails_and_loads_nothing(page):
    images = BeautifulSoup(page, "html.parser").find_all("img")
    assert len(images) == 4
    table = pd.read_csv("t.csv").sort_values("quality")
    for image, name in zip(images, table["image"], strict=False):
        kind, _, data = image["src"].partition(";base64,")
        assert kind == "data:image/jpeg" and image["loading"] == "lazy"
        shown = Image.open(io.BytesIO(base64.b64decode(data)))
        assert shown.format == "JPEG" and max(shown.size) == SIDE
        assert shown.size == (int(image["width"]), int(image["height"]))
        real = read_image(name.replace(r"\n", "\n"))
        real.thumbnail((SIDE, SIDE))
        assert abs(np.asarray(real, float) - np.asarray(shown, float)).mean() < 40
    for reference in re.findall(r"""(?:src|href|url|@import)\s*[=(]\s*["']?([^"' >)]+)""", page):
        assert reference.startswith("data:image/jpeg") or reference == "x", "x is a part of a name"
    assert "default-src 'none'; img-src data:" in page


def test_names_and_words_are_text(page):
    soup = BeautifulSoup(page, "html.parser")
    assert not soup.find_all("b") and not [tag for tag in soup.find_all(True) if tag.has_attr("onerror")]
    text = soup.get_text()
    assert all(f"images/{name}" in text for name in (NAMES[0], NAMES[1], r"line\nbreak.png"))


def test_a_deleted_image_has_no_thumbnail(tmp_path):
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    images = [str(tmp_path / "a.png"), str(tmp_path / "gone.png")]
    write_page(tmp_path / "p.html", pd.DataFrame({"image": images, "quality": [2.0, 1.0]}), read_image)
    first, second = rows((tmp_path / "p.html").read_text())
    assert "gone.png" in first.get_text() and not first.find("img") and second.find("img")
    assert len(first.find_all("td")) == 3, "a model of quality alone"
