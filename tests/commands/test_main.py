"""The command line, as a user types it."""

import re
import shlex
import subprocess
import sys

import pandas as pd
import pytest
from PIL import Image

import liqe_core
from liqe_core.__main__ import main
from liqe_core.commands.main import _parser
from liqe_core.files import CHECKOUT


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
        (
            ["notebooks", "02_multitask_training", "-p", "epochs", "2.5"],
            "02_multitask_training: epochs is 2.5; give int",
        ),
        (["notebooks", "02_multitask_training", "-p", "sessions", "3"], "sessions is 3; give list"),
        (["train", "-s", "learning_rate", "fast"], "mini: learning_rate is 'fast'; give a number"),
        (["sweep", "-s", "epochs", "2.5"], "mini: epochs is 2.5; give a whole number"),
    ],
)
def test_an_error_is_one_line_that_names_the_thing(arguments, says, capsys):
    assert main(arguments) == 1
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["sweep", "--workers", "-2"], "--workers: '-2': give a whole number from 1"),
        (["sweep", "--workers", "0"], "--workers: '0': give a whole number from 1"),
        (["data", "verify", "--workers", "two"], "--workers: 'two': give a whole number from 1"),
        (["data", "fetch", "csiq", "--mirror", "csiq.tgz"], "no clone of zwx8981/LIQE .*--from ARCHIVE"),
        (["data", "status", "--mirror", "nowhere"], "--mirror: nowhere: no clone of zwx8981/LIQE"),
    ],
)
def test_an_option_that_cannot_be_is_named(arguments, says, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2 and re.search(says, capsys.readouterr().err)


def test_the_commands_of_the_makefile_can_be_parsed():
    text = re.sub(r" \$\(if .*", "", (CHECKOUT / "Makefile").read_text()).replace("$(PROFILE)", "mini")
    told = re.findall(r"^\t\S+ (liqe .+)", text, flags=re.MULTILINE)
    parsed = [_parser().parse_args(shlex.split(command)[1:]) for command in told]
    assert {"check", "sweep", "notebooks"} <= {options.command for options in parsed}
    (paper,) = [o for o in parsed if o.command == "sweep" and o.profile == "paper"]
    assert paper.sessions == list(range(1, 11)) and paper.seeds == [1] and paper.variants is None


def test_a_folder_without_pictures_is_an_error(checkpoint, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert main(["score", str(tmp_path / "empty"), "--checkpoint", checkpoint]) == 1
    assert "no picture in this folder" in capsys.readouterr().err


def test_data_commands_are_there(capsys):
    assert main(["data", "list"]) == 0
    assert "koniq10k" in capsys.readouterr().out


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "notebooks"])
def test_commands_that_we_tell_people_to_type_can_be_parsed(page):
    pages = sorted((CHECKOUT / page).glob("*.ipynb")) if page == "notebooks" else [CHECKOUT / page]
    text = "\n".join(path.read_text() for path in pages)
    told = re.findall(r"(?:^|`)(liqe (?!<)[^`#\n\"\\]+)", text, flags=re.MULTILINE)
    assert told
    for command in told:
        words = shlex.split(command)[1:]
        if words != ["--help"]:
            assert _parser().parse_args(words).run, command


def test_help_fits_on_one_screen_and_needs_no_torch():
    code = "import sys; from liqe_core.commands.main import _parser; print(_parser().format_help());"
    code += "assert not {'torch', 'pandas', 'papermill'} & set(sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert len(shown.splitlines()) <= 32 and "liqe score" in shown and "%" not in shown


def test_version(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0 and capsys.readouterr().out == f"liqe {liqe_core.__version__}\n"
