"""What a notebook's parameters may be: asked by the notebook itself, and before any is run."""

import nbformat
import pytest

from liqe_core.commands import notebooks
from liqe_core.commands.main import main
from liqe_core.commands.parameters import ParameterError, checked, of_notebooks
from liqe_core.training.profiles import PROFILES

TRAINING = notebooks.FOLDER / "04_multitask_training.ipynb"


def namespace(added="", **given):
    """What a notebook has after its parameters cell, with some of them given by papermill."""
    book = nbformat.read(TRAINING, as_version=4)
    (cell,) = [cell for cell in book.cells if "parameters" in cell.metadata.get("tags", [])]
    after = {"In": ["", cell.source, added]}
    exec(cell.source, after)
    return after | given


@pytest.mark.parametrize(
    "given, says",
    [
        ({"sessions": 1}, "sessions is 1; give a list of whole numbers, such as [1, 2]"),
        ({"sessions": [0]}, "sessions is [0]; give a list of whole numbers, such as [1, 2], from 1 to 10"),
        ({"sessions": [11]}, "sessions is [11]; give a list"),
        ({"sessions": [1.5]}, "sessions is [1.5]; give a list of whole numbers"),
        ({"sessions": [True]}, "sessions is [True]; give a list of whole numbers"),
        ({"sessions": [1, 1]}, "sessions is [1, 1]; name each once"),
        ({"sessions": []}, "sessions is []; name at least one"),
        ({"sessions": "[]"}, "sessions is []; name at least one"),
        ({"sessions": "one"}, "sessions is 'one'; give a list of whole numbers"),
        ({"epochs": "three"}, "epochs is 'three'; give a whole number"),
        ({"epochs": 2.5}, "epochs is 2.5; give a whole number"),
        ({"epochs": -1}, "epochs is -1; give a number from 1, or 0 for the profile's own"),
        ({"epochs": None}, "epochs is None; give a whole number"),
        ({"seed": 1.5}, "seed is 1.5; give a whole number"),
        ({"seed": -1}, "seed is -1; give a number from 0"),
        ({"profile": "msini"}, "unknown profile 'msini'; choose one of smoke, mini"),
        ({"scratch": "msini"}, "scratch is 'msini'; choose from '', 'smoke'"),
        ({"variant": "scene"}, "variant is 'scene'; choose one of 'quality'"),
        ({"weighting": "dwb"}, "weighting is 'dwb'; choose one of"),
        ({"changes": {"learning_rate": "fast"}}, "learning_rate is 'fast'; give a number"),
        ({"changes": {"freeze": "txt"}}, "changes is {'freeze': 'txt'}: "),
        ({"changes": {"learning_rat": 1e-4}}, "unknown setting learning_rat; there are: "),
        ({"changes": [1]}, "changes is [1]; give names and values"),
        ({"out_dir": None}, "out_dir is None; give text"),
        ({"at_once": -1}, "at_once is -1; give a whole number, from 0"),
    ],
)
def test_what_cannot_be_is_named_with_its_value_and_what_it_may_be(given, says):
    with pytest.raises(ParameterError) as raised:
        checked(namespace(**given))
    assert says in str(raised.value)
    assert raised.value._render_traceback_() == [f"ParameterError: {raised.value}"]


def test_text_is_taken_for_what_it_says():
    given = {"sessions": "[2, 3]", "epochs": "3", "changes": '{"freeze": "text"}', "profile": "smoke"}
    taken = checked(namespace(**given, runs_root=2026))
    assert taken["sessions"] == [2, 3] and taken["epochs"] == 3 and taken["changes"] == {"freeze": "text"}
    assert taken["runs_root"] == "2026", "a folder's name that papermill took for a number"
    assert taken["profile"] == "smoke" and taken["scratch_epochs"] == namespace()["scratch_epochs"]
    written = checked(namespace(changes={"learning_rate": "1e-4", "compile": "true", "freeze": "text"}))
    assert written["changes"] == {"learning_rate": 1e-4, "compile": True, "freeze": "text"}


def test_a_name_that_papermill_adds_and_the_notebook_does_not_know_is_refused():
    assert checked(namespace('# Parameters\nprofile = "mini"\nsessions = [1]\n'))["sessions"] == [1, 2, 3]
    with pytest.raises(ParameterError, match="no parameter sesions in these notebooks; there are at_once, "):
        checked(namespace("# Parameters\nsesions = [1]\n", sesions=[1]))


def test_a_notebook_may_know_more_words():
    more = {"__annotations__": {"voices": list[str]}, "voices": ["alto", "tenor"]}
    assert checked(more)["voices"] == ["alto", "tenor"]
    with pytest.raises(ParameterError, match=r"voices is .*tenor.*; choose from 'alto', 'bass'"):
        checked(more, voices=("alto", "bass"))


@pytest.mark.parametrize(
    "name, given, says",
    [
        ("00_quickstart", {"photograph": "chelsee"}, "photograph is 'chelsee'; choose from "),
        (
            "00_quickstart",
            {"picture": "nope.jpg"},
            "picture is 'nope.jpg'; give a file or folder that is there",
        ),
        (
            "03_data_preparation",
            {"labels_mirror": "/nope"},
            "labels_mirror is '/nope'; give a file or folder",
        ),
        ("05_ablations", {"studies": ["varient"]}, "studies is ['varient']; choose from 'variant'"),
        ("10_paper_tables", {"paper_runs": "/nope"}, "paper_runs is '/nope'; give a file or folder"),
        (
            "10_paper_tables",
            {"checkpoint": "/nope"},
            "checkpoint is '/nope': /nope: no such file",
        ),
        ("07_gmad", {"attacker": "nope"}, "attacker is 'nope', and 'nope' is no scorer; give Q, Q+S, "),
        ("07_gmad", {"scorers": ["Q", "nope"]}, "and 'nope' is no scorer"),
        ("07_gmad", {"defender": "Q+S+D"}, "attacker and defender are both 'Q+S+D'"),
        ("07_gmad", {"human": "/nope.csv"}, "human is '/nope.csv'; give a file or folder"),
    ],
)
def test_what_is_not_there_is_told_before_a_notebook_runs(name, given, says):
    with pytest.raises(ParameterError) as raised:
        of_notebooks([notebooks.FOLDER / f"{name}.ipynb"], given)
    assert says in str(raised.value)


def test_every_default_is_one_that_may_be():
    books = sorted(notebooks.FOLDER.glob("*.ipynb"))
    for profile in PROFILES:
        assert of_notebooks(books, {"profile": profile}) == {"profile": profile}


def test_of_several_notebooks_each_is_asked_about_its_own():
    books = [notebooks.FOLDER / f"{name}.ipynb" for name in ("04_multitask_training", "05_ablations")]
    assert of_notebooks(books, {"sessions": "[1]", "test_crops": [1]}) == {"sessions": [1], "test_crops": [1]}
    with pytest.raises(ParameterError, match="test_crops is \\[0\\]; give a list"):
        of_notebooks(books, {"test_crops": [0]})
    with pytest.raises(ParameterError, match="no parameter test_crops in these notebooks"):
        of_notebooks(books[:1], {"test_crops": [1]})


@pytest.mark.parametrize(
    "arguments, says",
    [
        ("04_multitask_training -p epochs 2.5", "epochs is 2.5; give a whole number"),
        ("04_multitask_training -p sessions 1", "sessions is 1; give a list of whole numbers"),
        ("00_quickstart -p checkpont x", "no parameter checkpont in these notebooks; there are "),
        ("--profile msini", "unknown profile 'msini'; choose one of smoke"),
        ("-p profile msini", "unknown profile 'msini'; choose one of smoke"),
        ("07_ugly", "no notebook 07_ugly; there are 00_quickstart"),
    ],
)
def test_a_slip_is_told_before_anything_is_run_or_written(arguments, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LIQE_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(notebooks, "run", lambda *given, **more: pytest.fail("a notebook was run"))
    assert main(["notebooks", *arguments.split()]) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: ") and says in line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["04", "04_multitask_training", "notebooks/04_multitask_training.ipynb"])
def test_a_notebook_is_found_by_its_number_and_by_its_file(name, tmp_path, monkeypatch):
    monkeypatch.setattr(notebooks.pages, "installed", lambda: False)
    ran = []
    monkeypatch.setattr(notebooks, "run", lambda names, *given, **more: ran.extend(names) or [])
    assert main(["notebooks", name, "--profile", "smoke", "--out", str(tmp_path)]) == 0
    assert ran == ["04_multitask_training"]


def small_book(folder, source):
    folder.mkdir()
    kernel = {"kernelspec": {"name": "python3", "language": "python", "display_name": "Python 3"}}
    parameters = 'profile: str = "mini"  # any\nhuman: str = ""  # a file\nout_dir: str = ""  # a folder\n'
    cells = [
        nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell(source),
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), folder / "10_small.ipynb")


def test_paths_are_those_of_the_shell_and_a_wrong_one_is_told_in_a_line(tmp_path, monkeypatch, capsys):
    small_book(
        tmp_path / "books",
        "from pathlib import Path\n"
        "from liqe_core.commands.parameters import checked\n"
        "globals().update(checked(globals(), human=['people.csv']))\n"
        "(Path(out_dir) / 'found').write_text(Path(human).read_text())",
    )
    monkeypatch.setattr(notebooks, "FOLDER", tmp_path / "books")
    monkeypatch.setattr(notebooks.pages, "installed", lambda: False)  # a site is made of notebooks here alone
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for name in ("people.csv", "others.csv"):
        (tmp_path / "here" / name).write_text("scores")
    assert main(["notebooks", "-p", "human", "people.csv", "-p", "out_dir", "made"]) == 0
    assert (tmp_path / "here" / "made" / "found").read_text() == "scores"
    assert main(["notebooks", "-p", "human", "others.csv", "--out", "other"]) == 1
    said = capsys.readouterr().err
    assert "10_small failed: ParameterError: human is 'others.csv'; choose from 'people.csv'" in said
    (error,) = [
        output
        for cell in nbformat.read(tmp_path / "here/other/10_small.ipynb", as_version=4).cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if output.output_type == "error"
    ]
    assert len(error.traceback) == 1, "no traceback"
