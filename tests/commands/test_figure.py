"""`liqe figure`: figures again from what finished runs left, and errors that say what to do."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from support.runs import write_run

from liqe_core.commands.figure import latex, list_figures
from liqe_core.commands.main import main
from liqe_core.data.manifests import manifest_dir
from liqe_core.figures.concepts import prefix_tree
from liqe_core.figures.saving import read, save
from liqe_core.files import write_json
from liqe_core.prompts import VARIANTS
from liqe_core.studies.ablations import STUDIES


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Three runs of two sessions: all tasks, and quality alone in the first."""
    root = tmp_path_factory.mktemp("runs")
    for session in (1, 2):
        write_run(root, session=session, seed=session)
    write_run(root, session=1, seed=1, variant=VARIANTS[0])
    return root


@pytest.fixture
def failed(capsys):
    """Run the command, which has to fail; returns its message."""

    def run(*arguments):
        assert main(["figure", *map(str, arguments)]) == 1
        message = capsys.readouterr().err
        assert message.startswith("error: ") and "Traceback" not in message
        return message

    return run


def test_the_list_names_every_figure_with_a_sentence(capsys):
    assert main(["figure", "--list"]) == 0
    printed = capsys.readouterr().out
    for name, (notebook, sentence) in list_figures().items():
        assert f"{name} " in printed and sentence in printed and notebook in printed
        assert sentence.endswith(".")
    assert {f"ablation_{name}" for name in STUDIES} <= set(list_figures())


def test_training_curves_of_all_repeats_in_every_form(root, tmp_path, capsys):
    assert main(["figure", "training_curves", "--run", str(root), "--out", str(tmp_path)]) == 0
    names = [f"training_curves.{kind}" for kind in ("pdf", "svg", "png", "csv", "json")]
    assert capsys.readouterr().out.split() == [str(tmp_path / name) for name in names]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names), "and nothing half-written"
    table = pd.read_csv(tmp_path / "training_curves.csv")
    assert table["run"].tolist() == [1] * 4 + [2] * 4, "both sessions, and not the run of another task set"
    svg = (tmp_path / "training_curves.svg").read_text()
    assert "training loss</text>" in svg and "quality (SRCC)</text>" in svg, "text is text"
    assert "validation, at the end SRCC 0.4" in svg, "and the figure says in words what is on it"
    assert (tmp_path / "training_curves.pdf").read_bytes().startswith(b"%PDF")
    with Image.open(tmp_path / "training_curves.png") as image:
        assert image.width == 990 and round(image.info["dpi"][0]) == 300, "3.3 inches"


def test_page_width_and_dark(root, tmp_path):
    run = next((root / "train").glob("quality_*"))
    arguments = ["--run", str(run), "--out", str(tmp_path), "--width", "page", "--dark"]
    assert main(["figure", "training_curves", *arguments]) == 0
    with Image.open(tmp_path / "training_curves.png") as image:
        assert image.width == 2070, "6.9 inches"
        assert sum(image.convert("RGB").getpixel((1, 1))) < 150, "a dark ground"


def test_an_ablation_is_found_among_the_runs_and_is_a_table_for_latex_too(root, tmp_path):
    assert main(["figure", "ablation_variant", "--run", str(root), "--out", str(tmp_path)]) == 0
    table = pd.read_csv(tmp_path / "ablation_variant.csv").set_index("level")
    assert table.loc[VARIANTS[-1], "difference"] == pytest.approx((len(VARIANTS[-1]) - len("quality")) / 100)
    tex = (tmp_path / "ablation_variant.tex").read_text()
    assert r"\toprule" in tex and "quality+scene+distortion & 2 & " in tex


def test_a_table_is_drawn_as_csv_and_latex(root, tmp_path, capsys):
    assert main(["figure", "test_results", "--run", str(root), "--out", str(tmp_path)]) == 0
    assert [path.split(".")[-1] for path in capsys.readouterr().out.split()] == ["csv", "json", "tex"]
    assert pd.read_csv(tmp_path / "test_results.csv")["session"].tolist() == [1, 2]


def test_what_a_notebook_saved_is_drawn_again(root, tmp_path, failed):
    message = failed("prefix_tree", "--run", root, "--out", tmp_path)
    assert f"liqe notebooks from_scratch --out {root}" in message
    figure = prefix_tree(pd.DataFrame({"parent": [-1, 0], "word": ["start", "cat"]}))
    save(figure, tmp_path / "runs" / "from_scratch", "prefix_tree")
    arguments = ["--run", str(tmp_path / "runs"), "--out", str(tmp_path / "new"), "--style", "talk"]
    assert main(["figure", "prefix_tree", *arguments]) == 0
    assert pd.read_csv(tmp_path / "new" / "prefix_tree.csv")["word"].tolist() == ["start", "cat"]
    assert "cat</text>" in (tmp_path / "new" / "prefix_tree.svg").read_text()


@pytest.mark.parametrize(
    "path", sorted((manifest_dir() / "open" / "figures").glob("*.json")), ids=lambda p: p.stem
)
def test_a_figure_of_kept_tables_needs_no_run(path, tmp_path):
    assert main(["figure", path.stem, "--out", str(tmp_path), "--style", "notebook"]) == 0
    assert len(read(tmp_path / path.name).table) > 0


def test_a_slip_in_a_name_is_told_with_the_nearest(failed):
    assert "did you mean training_curves" in failed("trainingcurves")
    assert "--list" in failed("zzz") and "--list" in failed()


def test_a_folder_that_is_no_run(tmp_path, failed):
    assert "no such folder" in failed("training_curves", "--run", tmp_path / "absent")
    message = failed("training_curves", "--run", tmp_path)
    assert str(tmp_path) in message and "settings.json" in message and "train/" in message
    assert "--run" in failed("training_curves")


def test_an_unfinished_run_says_so(tmp_path, failed):
    run = write_run(tmp_path, finished=False)
    assert f"{run}: the run is not finished" in failed("training_curves", "--run", run)
    message = failed("training_curves", "--run", tmp_path)
    assert "no finished run" in message and "1 are unfinished" in message


def test_a_damaged_run_says_so(tmp_path, failed):
    run = write_run(tmp_path)
    content = json.loads((run / "settings.json").read_text())
    del content["settings"]["name"]
    write_json(run / "settings.json", content)
    assert "cannot be read" in failed("training_curves", "--run", run)


def test_a_figure_that_a_run_cannot_give_names_those_it_can(root, failed):
    run = next((root / "train").iterdir())
    assert "differ in variant alone" in failed("ablation_variant", "--run", run)
    possible = failed("pairs", "--run", run).split("can give: ")[1].strip().split(", ")
    assert {"training_curves", "loss_weights", "test_results"} <= set(possible)
    assert not any(name.startswith("ablation") for name in possible) and "pairs" not in possible


def test_an_output_folder_that_cannot_be_written(root, tmp_path, failed):
    (tmp_path / "file").write_text("")
    message = failed("training_curves", "--run", root, "--out", tmp_path / "file")
    assert str(tmp_path / "file") in message and "--out" in message


def test_a_width_is_for_a_paper(root, failed):
    assert "--style paper" in failed("training_curves", "--run", root, "--style", "talk", "--width", "page")


def test_latex_rounds_and_escapes_and_leaves_blank_what_is_not_there():
    table = pd.DataFrame({"a_b": ["50 %", None], "count": [2.0, np.nan], "value": [0.12345, np.nan]})
    assert r"a\_b & count & value" in latex(table) and r"50 \% & 2 & 0.123 \\" in latex(table)
    assert " &  &  \\\\" in latex(table)
