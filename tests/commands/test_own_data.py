"""The documentation's page on one's own data, from an empty folder."""

import re
import shlex

import pandas as pd
import pytest
from PIL import Image
from support.data import write_image

from liqe_core import LIQE
from liqe_core.commands.main import main
from liqe_core.files import CHECKOUT


@pytest.fixture(scope="module")
def page():
    text = (CHECKOUT / "docs" / "own-data.md").read_text(encoding="utf-8")
    return dict(re.findall(r"```(\w*)\n(.*?)```", text, re.S))


@pytest.fixture
def mine(page, empty_folder):
    """A folder with the manifest of the documentation, and twenty images labelled like its two."""
    (empty_folder / "my.yaml").write_text(page["yaml"])
    head, *shown = page["text"].splitlines()
    rows = []
    for i in range(20):
        name = f"p{i:02}.png"
        write_image(empty_folder / "photographs" / name, 50, 40, seed=i)
        part = "val" if i < 4 else "test" if i < 8 else "train"
        rows.append(f"{name},{1 + i % 9 / 2},{','.join(shown[i % 2].split(',')[2:4])},{part}")
    (empty_folder / "scores.csv").write_text("\n".join([head, *rows]) + "\n")
    return empty_folder


def test_the_page_works(page, mine, capsys):
    commands = [line.partition("#")[0] for line in page[""].splitlines()]
    assert len(commands) == 5
    for command in commands:
        _, *words = shlex.split(command.replace("mini", "smoke").replace("224", "32"))
        assert main(words) == 0, command
    said = capsys.readouterr()
    assert "20 of 20" in said.out and "my: every image is present and intact" in said.out
    grid = LIQE.from_checkpoint("run/best_quality.safetensors").grid
    assert grid.scene == ("shoe", "hat") and grid.distortion == ("scratched", "faded")
    results = pd.read_csv("run/results.csv")
    assert set(results["dataset"]) == {"my.yaml"} and set(results["images"]) == {4}
    assert results[["srcc", "scene_accuracy", "distortion_accuracy"]].notna().all(axis=None)


def test_scores_out_of_range_and_empty_tables_are_rejected(mine, capsys):
    train = ["train", "--profile", "smoke", "--data", "my.yaml", "--out", "run"]
    table = (mine / "scores.csv").read_text()
    (mine / "scores.csv").write_text(table.replace("p03.png,2.5", "p03.png,7"))
    assert main(train) == 1
    assert "my.yaml: 1 scores outside" in capsys.readouterr().err
    (mine / "scores.csv").write_text(table.splitlines()[0] + "\n")
    assert main(train) == 1 and not (mine / "run").exists()
    assert "no rows" in capsys.readouterr().err


def test_unusable_images_are_reported_and_excluded_on_request(mine, capsys):
    Image.new("RGB", (20, 40)).save("photographs/p05.png")
    (mine / "photographs/p06.png").write_text("no image")
    (mine / "photographs/p08.png").unlink()
    train = ["train", "--profile", "smoke", "--data", "my.yaml", "--out", "run"]
    assert main(train) == 1 and not (mine / "run").exists()
    assert main([*train, "-s", "unfit", "leave out"]) == 0
    said = capsys.readouterr().err
    for name, why in (("p05", "too small, 20 x 40"), ("p06", "unreadable"), ("p08", "missing")):
        assert f"my.yaml: left out: {name}.png: {why}" in said
    assert set(pd.read_csv("run/results.csv")["images"]) == {2}
