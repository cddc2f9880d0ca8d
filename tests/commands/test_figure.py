"""`liqe figure`: redraws figures from finished runs; errors say what to do."""

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


def test_the_list_names_every_figure_and_its_notebook(capsys):
    assert main(["figure", "--list"]) == 0
    printed = capsys.readouterr().out
    for name, (notebook, _) in list_figures().items():
        assert f"{name} " in printed and notebook in printed
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
    assert "validation, at the end SRCC 0.4" in svg, "the figure has an alternative text"
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


def test_a_saved_figure_is_redrawn(tmp_path):
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


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("", "--list"),
        ("zzz", "--list"),
        ("trainingcurves", "training_curves"),
        ("training_curves", "--run"),
        ("training_curves --run absent", "absent"),
        ("training_curves --run empty", "empty settings.json train/"),
        ("training_curves --run {unfinished}", "{unfinished} finished"),
        ("training_curves --run under_way", "finished 2"),
        ("training_curves --run {damaged}", "{damaged} read"),
        ("training_curves --run {run} --out file", "file --out"),
        ("training_curves --run {run} --style talk --width page", "--style"),
        ("ablation_variant --run {run}", "variant"),
        ("prefix_tree --run {run}", "liqe notebooks from_scratch --out {run}"),
    ],
)
def test_undrawable_figures_are_reported_with_advice(root, tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    runs = {"run": next((root / "train").glob("quality+*"))}
    runs |= {"unfinished": write_run("under_way", finished=False), "damaged": write_run("under_way", seed=2)}
    content = json.loads((runs["damaged"] / "settings.json").read_text())
    del content["settings"]["name"]
    write_json(runs["damaged"] / "settings.json", content)
    assert main(["figure", *arguments.format(**runs).split()]) == 1
    (message,) = capsys.readouterr().err.splitlines()
    assert message.startswith("error: ") and all(word in message for word in words.format(**runs).split())


def test_latex_rounds_escapes_and_leaves_missing_cells_empty():
    table = pd.DataFrame({"a_b": ["50 %", None], "count": [2.0, np.nan], "value": [0.12345, np.nan]})
    assert r"a\_b & count & value" in latex(table) and r"50 \% & 2 & 0.123 \\" in latex(table)
    assert " &  &  \\\\" in latex(table)
