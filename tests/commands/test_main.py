"""The command line, as a user types it."""

import pandas as pd
import pytest
from PIL import Image

from liqe_core.commands.main import main


@pytest.fixture
def checkpoint(small_liqe, tmp_path):
    path = tmp_path / "model.safetensors"
    small_liqe.save(path)
    return str(path)


@pytest.fixture
def folder(photograph, tmp_path):
    folder = tmp_path / "holiday" / "day 1"
    folder.mkdir(parents=True)
    Image.fromarray(photograph[:200, :300]).save(folder / "beach.png")
    Image.fromarray(photograph[100:300, :200]).save(folder / "SUNSET.JPG")
    (folder / "notes.txt").write_text("not a picture, and not looked at")
    return folder.parent


def test_score_prints_a_row_a_picture(checkpoint, folder, small_liqe, capsys):
    assert main(["score", str(folder), "--checkpoint", checkpoint]) == 0
    printed = capsys.readouterr().out
    assert "beach.png" in printed and "SUNSET.JPG" in printed and "notes.txt" not in printed
    expected = float(small_liqe.score(folder / "day 1" / "beach.png").quality[0])
    assert f"{expected:.6f}" in printed


def test_score_writes_a_csv_and_says_what_it_skipped(checkpoint, folder, tmp_path, capsys):
    bad = folder / "broken.jpg"
    bad.write_text("no picture")
    out = tmp_path / "scores.csv"
    assert main(["score", str(folder), "--checkpoint", checkpoint, "--csv", str(out)]) == 1
    table = pd.read_csv(out)
    assert len(table) == 3 and table["quality"].notna().sum() == 2
    assert "not a picture" in table.set_index("image").loc[str(bad), "error"]
    said = capsys.readouterr()
    assert "2 of 3 pictures scored" in said.out and "broken.jpg" in said.err


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["score", "x.jpg", "--checkpoint", "nowhere.pt"], "nowhere.pt: no such file"),
        (["notebooks", "07_ugly"], "no notebook 07_ugly"),
    ],
)
def test_an_error_is_one_line_that_names_the_thing(arguments, says, capsys):
    assert main(arguments) == 1
    assert says in capsys.readouterr().err


def test_a_folder_without_pictures_is_an_error(checkpoint, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert main(["score", str(tmp_path / "empty"), "--checkpoint", checkpoint]) == 1
    assert "no picture in this folder" in capsys.readouterr().err


def test_data_commands_are_there(capsys):
    assert main(["data", "list"]) == 0
    assert "koniq10k" in capsys.readouterr().out
