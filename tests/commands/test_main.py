"""The command line, as a user types it."""

import re
import shlex
import subprocess
import sys

import pytest

import liqe_core
from liqe_core.__main__ import main
from liqe_core.commands import notebooks
from liqe_core.commands.options import EXAMPLES, build_parser, values
from liqe_core.commands.parameters import check_for
from liqe_core.files import CHECKOUT
from liqe_core.training.watch import TrainingError


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ("train --profile smoke -s epochs 2.5", "epochs"),
        ("train --profile smoke -s speed 3", "speed"),
        ("train --profile smoke -s architecture ViT-B-33", "ViT-B-33"),
        ("train --profile fast", "'fast'"),
        ("train --profile smoke --data none.yaml", "none.yaml"),
        ("sweep --profile smoke --sessions 11", "session"),
    ],
)
def test_invalid_values_and_unknown_names_are_reported_in_a_sentence(arguments, word, capsys):
    assert main(arguments.split()) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: ") and word in line


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        ("data verify --workers two", "--workers"),
        ("sweep --workers 0", "--workers"),
        ("data fetch csiq --mirror csiq.tgz", "--from ARCHIVE"),
        ("data status --mirror nowhere", "--mirror"),
    ],
)
def test_an_option_that_cannot_be_is_named(arguments, option, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments.split())
    assert ended.value.code == 2 and option in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (TrainingError("epoch 1: training diverges"), "diverges"),
        (MemoryError("a step is estimated to need 9 GB"), "9 GB"),
        (MemoryError(), "memory"),
    ],
)
def test_a_failed_run_is_reported_without_a_traceback(error, word, monkeypatch, tmp_path, capsys):
    def fit(*arguments, **options):
        raise error

    monkeypatch.setattr("liqe_core.training.loop.fit", fit)
    monkeypatch.setattr("liqe_core.training.prepare.sets_for", lambda settings: [])
    assert main(["train", "--profile", "smoke", "--out", str(tmp_path)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and word in line


PAGES = ("README.md", "CONTRIBUTING.md", "docs", "notebooks", "Makefile")


@pytest.mark.parametrize("page", ["", *PAGES])
def test_documented_commands_can_be_parsed(page):
    """And the notebooks take the parameters that are in them. No page: the help of the commands."""
    pattern = r"(?:^|`|-m |\t\S+ )(liqe(?:_core)? (?!<)[^`#\n\"\\]+)"  # also after torchrun, and by make
    examples = "\n".join(EXAMPLES.values()).replace("  liqe", "liqe")
    text = re.sub(r" \$\(if .*", "", text_of(page) if page else examples).replace("$(PROFILE)", "mini")
    commands = re.findall(pattern, text, flags=re.MULTILINE)
    assert commands
    for command in commands:
        words = shlex.split(command)[1:]
        if words == ["--help"]:
            continue
        options = build_parser().parse_args(words)
        if options.command == "notebooks":
            names = map(notebooks.find_name, options.names or notebooks.available())
            check_for(names, {"profile": options.profile} | values(options.p))


def text_of(*pages):
    """The text of pages, of the documentation and of notebooks."""
    tops = [CHECKOUT / page for page in pages]
    paths = [p for top in tops for p in ([top] if top.is_file() else sorted(top.glob("*.[mi]*")))]
    return "\n".join(path.read_text(encoding="utf-8") for path in paths)


def test_documented_make_targets_exist():
    rules = re.findall(r"(?m)^([a-z][\w -]*):", (CHECKOUT / "Makefile").read_text())
    targets = {target for rule in rules for target in rule.split()}
    named = re.findall(r"(?m)(?:^|`)make ([a-z][\w-]*)", text_of(*PAGES))
    assert {"demo", "test", "sweep", "paper"} <= set(named) <= targets


def test_the_version_is_printed(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert liqe_core.__version__ in capsys.readouterr().out


def test_help_fits_on_one_screen_and_needs_no_torch():
    code = "import sys; from liqe_core.commands import options; print(options.build_parser().format_help());"
    code += "assert not {'torch', 'pandas', 'papermill'} & set(sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert len(shown.splitlines()) <= 32 and "liqe score" in shown and "%" not in shown


def test_make_paper_trains_ten_sessions():
    (line,) = re.findall(r"liqe (sweep --profile paper .*?) \$", (CHECKOUT / "Makefile").read_text())
    paper = build_parser().parse_args(line.split())
    assert paper.sessions == list(range(1, 11)) and paper.seeds == [1] and paper.variants is None


@pytest.mark.parametrize(("package", "command"), [("pydantic", "data list"), ("yaml", "data list")])
def test_a_command_names_its_missing_extra(package, command):
    code = f"import sys; sys.modules[{package!r}] = None; from liqe_core.commands.main import main; "
    code += "sys.exit(main(sys.argv[1:]))"
    start = [sys.executable, "-c", code]
    lacking = subprocess.run([*start, *command.split()], capture_output=True, text=True)
    assert lacking.returncode == 1 and "liqe-core[data]" in lacking.stderr
    assert lacking.stderr.count("\n") == 1, "no traceback"
    assert subprocess.run([*start, "score", "--help"], capture_output=True).returncode == 0
