"""The command line, as a user types it."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from papermill.cli import _resolve_type
from PIL import Image

import liqe_core
from liqe_core import LIQE, PromptGrid, checkpoints
from liqe_core.__main__ import main
from liqe_core.commands import notebooks, site
from liqe_core.commands.main import _parser
from liqe_core.commands.options import values
from liqe_core.commands.parameters import check_for
from liqe_core.files import CHECKOUT
from liqe_core.training.watch import TrainingError


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
    output = capsys.readouterr()
    assert "2 of 3 images scored" in output.out and "broken.jpg" in output.err


def test_score_without_a_checkpoint_takes_the_packaged_one_and_says_so(
    checkpoint, folder, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(checkpoints, "PACKAGED", {"liqe-tiny": Path(checkpoint)})
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert main(["score", str(folder)]) == 0
    packaged = capsys.readouterr()
    assert main(["score", str(folder), "--checkpoint", checkpoint]) == 0
    named = capsys.readouterr()
    assert named.out == packaged.out
    notice = packaged.err.removeprefix(named.err)
    assert "liqe-tiny" in notice and "scenes are not reliable" in notice and notice.count("\n") == 1
    another = LIQE.from_clip("LIQE-smoke", pretrained=None, grid=PromptGrid.variant("quality"))
    another.save("liqe-tiny")  # a file that is called so wins
    assert main(["score", str(folder)]) == 0
    mine = capsys.readouterr()
    assert mine.out != packaged.out and mine.err == named.err


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["score", "x.jpg", "--checkpoint", "nowhere.pt"], "nowhere.pt: no such file"),
    ],
)
def test_an_error_is_one_line_that_names_the_thing(arguments, says, capsys):
    assert main(arguments) == 1
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, says",
    [
        ("train --profile smoke -s epochs 2.5", "epochs is 2.5"),
        ("train --profile smoke -s learning_rate fast", "learning_rate is 'fast'"),
        ("train --profile smoke -s batch_sizes 6", "batch_sizes is 6"),
        ("train --profile smoke -s speed 3", "unknown setting speed; choose from "),
        ("train --profile smoke -s device gpu", "device is 'gpu'; give auto, cpu"),
        ("train --profile smoke -s architecture ViT-B-33", "no architecture 'ViT-B-33'"),
        ("train --profile fast", "unknown profile 'fast'; choose one of smoke"),
        ("train --profile smoke --data none.yaml", "none.yaml: no such file"),
        ("sweep --profile smoke -s epochs many", "epochs is 'many'"),
        ("sweep --profile smoke --sessions 11", "session is 11"),
    ],
)
def test_words_where_numbers_belong_and_unknown_names_are_told_in_a_sentence(arguments, says, capsys):
    assert main(arguments.split()) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: ") and says in line


@pytest.mark.parametrize(
    "arguments, says",
    [
        ("data verify --workers two", "--workers: two: give a whole number from 1"),
        ("data pack mini --workers -1", "--workers: -1: give a whole number from 1"),
        ("sweep --workers 0", "--workers: 0: give a whole number from 1"),
        ("sweep --workers -2", "--workers: -2: give a whole number from 1"),
        ("sweep --seeds one", "--seeds: invalid int"),
        ("data fetch csiq --mirror csiq.tgz", "no clone of zwx8981/LIQE .*--from ARCHIVE"),
        ("data status --mirror nowhere", "--mirror: nowhere: no clone of zwx8981/LIQE"),
    ],
)
def test_an_option_that_cannot_be_is_named(arguments, says, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments.split())
    assert ended.value.code == 2 and re.search(says, capsys.readouterr().err)


@pytest.mark.parametrize(
    "error", [TrainingError("epoch 1: training diverges"), MemoryError("a step is estimated to need 9 GB")]
)
def test_a_run_that_ends_badly_says_why_without_a_traceback(error, monkeypatch, tmp_path, capsys):
    def fit(*arguments, **options):
        raise error

    monkeypatch.setattr("liqe_core.training.loop.fit", fit)
    monkeypatch.setattr("liqe_core.training.prepare.sets_for", lambda settings: [])
    assert main(["train", "--profile", "smoke", "--out", str(tmp_path)]) == 1
    assert capsys.readouterr().err == f"error: {error}\n"


def test_a_folder_without_pictures_is_an_error(checkpoint, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert main(["score", str(tmp_path / "empty"), "--checkpoint", checkpoint]) == 1
    assert "no picture in this folder" in capsys.readouterr().err


def test_data_commands_are_there(capsys):
    assert main(["data", "list"]) == 0
    assert "koniq10k" in capsys.readouterr().out


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "docs", "notebooks"])
def test_commands_that_we_tell_people_to_type_can_be_parsed(page):
    text = text_of(page)
    commands = re.findall(r"(?:^|`)(liqe (?!<)[^`#\n\"\\]+)", text, flags=re.MULTILINE)
    assert commands
    for command in commands:
        words = shlex.split(command)[1:]
        if words != ["--help"]:
            assert _parser().parse_args(words).run, command


def text_of(*pages):
    """The text of pages, of the documentation and of notebooks."""
    tops = [CHECKOUT / page for page in pages]
    paths = [p for top in tops for p in ([top] if top.is_file() else sorted(top.glob("*.[mi]*")))]
    return "\n".join(path.read_text(encoding="utf-8") for path in paths)


def test_what_we_tell_people_to_make_is_in_the_makefile():
    targets = re.findall(r"^([a-z][\w-]*):", (CHECKOUT / "Makefile").read_text(), flags=re.MULTILINE)
    named = re.findall(
        r"(?:^|`)make ([a-z][\w-]*)",
        text_of("README.md", "CONTRIBUTING.md", "docs", "notebooks"),
        flags=re.MULTILINE,
    )
    assert {"demo", "test", "sweep", "paper"} <= set(named) <= set(targets)


def test_the_papermill_line_is_one_that_the_notebook_takes():
    (line,) = re.findall(r"`(papermill [^`]* -p [^`]*)`", text_of("README.md"))
    _, book, _, *pairs = shlex.split(line)
    assert set(pairs[::3]) == {"-p"}
    parameters = {name: _resolve_type(value) for name, value in zip(pairs[1::3], pairs[2::3], strict=True)}
    assert check_for([Path(book).stem], parameters) == {"profile": "mini", "sessions": [1]}


def test_parameters_in_the_commands_that_we_tell_are_ones_that_the_notebooks_take():
    lines = re.findall(
        r"(?:^|`)(liqe notebooks [^`#\n\"\\]+)", text_of("README.md", "docs"), flags=re.MULTILINE
    )
    lines += re.findall(r"(liqe notebooks .*)", (CHECKOUT / "Makefile").read_text())
    assert lines
    for line in lines:
        options = _parser().parse_args(shlex.split(line)[1:])
        names = map(notebooks.find_name, options.names or site.available())
        check_for(names, {"profile": options.profile} | values(options.p))


def test_training_on_several_gpus_is_a_command_that_can_be_parsed():
    (line,) = re.findall(r"`torchrun [^`]*-m liqe_core ([^`]+)`", text_of("docs"))
    assert _parser().parse_args(shlex.split(line)).command == "train"


@pytest.mark.parametrize("command", ["liqe data status", "liqe --help"])
def test_commands_that_are_quick_are_run(command, tmp_path, monkeypatch, capsys):
    assert command in text_of("README.md", "docs", "notebooks")
    monkeypatch.setenv("LIQE_DATA", str(tmp_path))
    try:
        code = main(shlex.split(command)[1:])
    except SystemExit as ended:
        code = ended.code
    assert code == 0 and capsys.readouterr().out


def test_help_fits_on_one_screen_and_needs_no_torch():
    code = "import sys; from liqe_core.commands.main import _parser; print(_parser().format_help());"
    code += "assert not {'torch', 'pandas', 'papermill'} & set(sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert len(shown.splitlines()) <= 32 and "liqe score" in shown and "%" not in shown


def test_version(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0 and capsys.readouterr().out == f"liqe {liqe_core.__version__}\n"


def test_the_commands_of_the_makefile_can_be_parsed():
    text = re.sub(r" \$\(if .*", "", (CHECKOUT / "Makefile").read_text()).replace("$(PROFILE)", "mini")
    commands = re.findall(r"^\t\S+ (liqe .+)", text, flags=re.MULTILINE)
    parsed = [_parser().parse_args(shlex.split(command)[1:]) for command in commands]
    assert {"check", "sweep", "notebooks"} <= {options.command for options in parsed}
    (paper,) = [o for o in parsed if o.command == "sweep" and o.profile == "paper"]
    assert paper.sessions == list(range(1, 11)) and paper.seeds == [1] and paper.variants is None


def test_memory_that_is_used_up_is_told_in_words(checkpoint, folder, monkeypatch, capsys):
    def used_up(*_, **__):
        raise MemoryError

    monkeypatch.setattr("liqe_core.crops.scoring_crops", used_up)
    assert main(["score", str(folder), "--checkpoint", str(checkpoint)]) == 1
    assert "error: memory is used up; take fewer or smaller pictures" in capsys.readouterr().err
