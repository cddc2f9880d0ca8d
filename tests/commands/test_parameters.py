"""What a notebook's parameters may be: asked by the notebook itself, and before any is run."""

import nbformat
import pytest
from support.books import book_of

from liqe_core.commands import notebooks
from liqe_core.commands.main import main
from liqe_core.commands.parameters import NOTEBOOKS, ParameterError, TrainingParameters, check_for
from liqe_core.training.profiles import PROFILES

TRAINING, ABLATIONS = "04_multitask_training", "05_ablations"


@pytest.mark.parametrize(
    "notebook, values, words",
    [
        (TRAINING, {"sessions": 1}, "sessions is 1"),
        (TRAINING, {"sessions": [11]}, "sessions.0 is 11"),
        (TRAINING, {"sessions": [True]}, "sessions.0 is True"),
        (TRAINING, {"sessions": [1, 1]}, "sessions is [1, 1]"),
        (TRAINING, {"sessions": "[]"}, "sessions is []"),
        (TRAINING, {"epochs": 2.5}, "epochs is 2.5"),
        (TRAINING, {"seed": -1}, "seed is -1"),
        (TRAINING, {"profile": "msini"}, "profile is 'msini'; choose one of 'smoke', 'mini'"),
        (TRAINING, {"scratch": "msini"}, "scratch is 'msini'; choose one of '', 'smoke'"),
        (TRAINING, {"variant": "scene"}, "variant is 'scene'; choose one of 'quality'"),
        (TRAINING, {"changes": {"learning_rate": "fast"}}, "learning_rate is 'fast'"),
        (TRAINING, {"changes": {"learning_rat": 1e-4}}, "learning_rat;"),
        (TRAINING, {"changes": [1]}, "changes is [1]"),
        (TRAINING, {"out_dir": None}, "out_dir is None"),
        ("00_quickstart", {"photograph": "chelsee"}, "photograph is 'chelsee'; choose"),
        ("00_quickstart", {"image": "nope.jpg"}, "image is 'nope.jpg'"),
        (ABLATIONS, {"studies": ["varient"]}, "studies.0 is 'varient'; choose one of 'variant'"),
        ("10_paper_tables", {"checkpoint": "/nope"}, "checkpoint is '/nope'"),
        ("07_gmad", {"scorers": ["Q", "nope"]}, "scorers.1 is 'nope'"),
        ("07_gmad", {"defender": "liqe-tiny"}, "attacker and defender are both 'liqe-tiny'"),
        ("90_benchmarks", {"half": "float32"}, "half is 'float32'"),
        (TRAINING, {"changes": {"freeze": "txt"}}, "freeze is 'txt'"),
        (TRAINING, {"at_once": -1}, "at_once is -1"),
        ("03_data_preparation", {"labels_mirror": "/nope"}, "labels_mirror is '/nope'"),
        ("07_gmad", {"attacker": "nope"}, "attacker is 'nope'"),
        ("07_gmad", {"human": "/nope.csv"}, "human is '/nope.csv'"),
    ],
    ids=str,
)
def test_a_wrong_value_is_named_in_one_line(notebook, values, words):
    with pytest.raises(ParameterError) as raised:
        check_for([notebook], values)
    assert words in str(raised.value) and "\n" not in str(raised.value)
    assert raised.value._render_traceback_() == [f"ParameterError: {raised.value}"]


def test_text_is_converted_to_the_type_of_a_parameter():
    given = {"sessions": "[2, 3]", "epochs": "3", "changes": '{"freeze": "text"}', "profile": "smoke"}
    p = TrainingParameters.from_notebook(given | {"runs_root": 2026})
    assert p.sessions == [2, 3] and p.epochs == 3 and p.scratch_epochs == 2
    assert p.runs_root == "2026", "a folder's name that papermill took for a number"
    assert (p.settings().name, p.settings().steps.epochs, p.settings().model.freeze) == ("smoke", 3, "text")
    p = TrainingParameters.check({"changes": {"learning_rate": "1e-4", "compile": "true", "freeze": "text"}})
    assert p.changes == {"learning_rate": 1e-4, "compile": True, "freeze": "text"}


def test_an_undeclared_parameter_is_rejected():
    known = {"In": ["", '# Parameters\nprofile = "mini"\ntest_crops = [1]\nPAPERMILL_INPUT_PATH = "a"\n']}
    for _ in range(2):  # a cell may be run again
        assert TrainingParameters.from_notebook({**known, "sessions": [1], "other": 1}).sessions == [1]
        known["p"] = TrainingParameters()
    with pytest.raises(ParameterError, match=r"sesions; choose from .*sessions"):
        TrainingParameters.from_notebook({"In": ["# Parameters\nsesions = [1]\n"], "sesions": [1]})


@pytest.mark.parametrize("profile", PROFILES)
def test_every_notebook_accepts_every_profile(profile):
    assert check_for(NOTEBOOKS, {"profile": profile}) == {"profile": profile}


def test_of_several_notebooks_each_is_asked_about_its_own():
    given = {"sessions": "[1]", "test_crops": [1]}
    assert check_for([TRAINING, ABLATIONS], given) == {"sessions": [1], "test_crops": [1]}
    with pytest.raises(ParameterError, match=r"test_crops\.0 is 0"):
        check_for([TRAINING, ABLATIONS], {"test_crops": [0]})
    with pytest.raises(ParameterError, match="test_crops"):
        check_for([TRAINING], {"test_crops": [1]})


@pytest.mark.parametrize(
    "arguments, names",
    [
        ("04_multitask_training -p epochs 2.5", "epochs is 2.5"),
        ("00_quickstart -p checkpont x", "checkpont; choose from"),
        ("--profile msini", "'msini'; choose one of 'smoke'"),
        ("-p profile msini", "'msini'; choose one of 'smoke'"),
        ("07_ugly", "07_ugly; choose from 00_quickstart"),
    ],
)
def test_a_mistyped_parameter_is_reported_before_the_run(arguments, names, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LIQE_RUNS", str(tmp_path / "runs"))
    assert main(["notebooks", *arguments.split()]) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: ") and names in line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "name", ["04", "multitask_training", "04_multitask_training", "notebooks/04_multitask_training.ipynb"]
)
def test_a_notebook_is_found_by_its_number_its_words_and_its_file(name):
    assert notebooks.find_name(name) == "04_multitask_training"


def test_paths_are_those_of_the_shell(tmp_path, monkeypatch):
    source = tmp_path / "10_small.ipynb"
    code = (
        "from pathlib import Path\n"
        "from liqe_core.commands.parameters import GmadParameters\n"
        "p = GmadParameters.from_notebook(globals())\n"
        "(Path(p.out_dir) / 'found').write_text(Path(p.human).read_text())"
    )
    nbformat.write(book_of('human: str = ""  # a file\nout_dir: str = ""', code), source)
    (tmp_path / "people.csv").write_text("scores")
    monkeypatch.chdir(tmp_path)
    assert notebooks.execute(source, tmp_path / "out" / source.name, {"human": "people.csv"}).error == ""
    assert (tmp_path / "out" / "found").read_text() == "scores"
