"""The notebooks, run by papermill in profile `smoke`, and their output files."""

import ast
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from itertools import product

import nbformat
import numpy as np
import pandas as pd
import papermill
import pytest
from PIL import Image
from scipy.stats import norm
from support.books import book_of
from support.data import MIRROR, SAMPLES, SHARED, needs_mirror

from liqe_core.commands import notebooks
from liqe_core.commands.figure import list_figures
from liqe_core.commands.main import main
from liqe_core.commands.parameters import NOTEBOOKS
from liqe_core.data.manifests import manifest_dir
from liqe_core.figures.saving import find, read, save
from liqe_core.prompts import VARIANTS
from liqe_core.studies.open_benchmark import ARMS, KEPT

#: Where the results of other sessions than the notebook's own lie.
TRAINING = "multitask_training/sessions=1,2"
ALL = sorted(notebooks.NOTEBOOKS.glob("*.ipynb"))


def exercises(book):
    """Return the cells after the last heading "Exercises", without those that check an answer.

    These are the exercises, each with its solution, and the last cell."""
    (first,) = [i for i, cell in enumerate(book.cells) if "## Exercises" in cell.source]
    *pairs, last = [cell for cell in book.cells[first:] if cell.metadata.get("tags") != ["check"]]
    return list(zip(pairs[::2], pairs[1::2], strict=True)), last


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_written_as_a_notebook_here_is(path):
    book = nbformat.read(path, as_version=4)
    nbformat.validate(book)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code), "outputs are stripped in git"
    (parameters,) = [cell for cell in code if "parameters" in cell.metadata.get("tags", [])]
    assert parameters is code[0], "parameters come first"

    declared = papermill.inspect_notebook(str(path))
    defaults = {name: ast.literal_eval(field["default"]) for name, field in declared.items()}
    model = NOTEBOOKS[path.stem]
    assert defaults == model().model_dump(), "the cell's defaults are the model's"
    assert f"p = {model.__name__}.from_notebook(globals())" in code[1].source, "checked before any work"
    assert len(re.findall(r"^(?:from|import) ", code[1].source, re.MULTILINE)) <= 8, "lines of imports"
    pairs, last = exercises(book)
    assert pairs
    for _, solution in pairs:
        assert solution.metadata.tags == ["solution"] and solution.metadata.jupyter.source_hidden
    following = [*ALL[ALL.index(path) + 1 :], ALL[0]][0]
    assert f"]({following.name})" in last.source


def test_copies_for_students_have_checks_but_no_solutions(tmp_path):
    rule = re.search(
        r"^students:.*\n\t.*nbconvert(.*\n.*)$", (notebooks.CHECKOUT / "Makefile").read_text(), re.M
    )
    words = rule[1].replace("\\\n", " ").replace("$(RUN)/students", str(tmp_path)).split()
    path = notebooks.NOTEBOOKS / "02_concepts.ipynb"
    subprocess.run(["jupyter", "nbconvert", *words[:-1], str(path)], check=True, timeout=300)
    book, ours = (nbformat.read(folder / path.name, 4) for folder in (tmp_path, notebooks.NOTEBOOKS))
    tags = [cell.metadata.get("tags") for cell in book.cells]
    assert ["solution"] not in tags and ["check"] in tags
    assert len(book.cells) == sum(cell.metadata.get("tags") != ["solution"] for cell in ours.cells)


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """The demo's notebooks, run once in `smoke`, with a cache of their own."""
    folder = tmp_path_factory.mktemp("smoke")
    patch = pytest.MonkeyPatch()
    patch.setenv("LIQE_CACHE", str(tmp_path_factory.mktemp("cache")))
    patch.setenv("LIQE_RUNS", str(tmp_path_factory.mktemp("runs")))
    patch.chdir(tmp_path_factory.mktemp("elsewhere"))  # nothing depends on the current folder
    names = [name for name in notebooks.available() if not name.startswith("9")]
    given = {"sessions": "[1, 2]", "studies": '["variant", "control"]', "brief_epochs": "1"}
    if SHARED.is_dir():  # then the real label files and some real images take part
        given |= {"labels_mirror": str(MIRROR), "data_root": str(SAMPLES)}
    options = [word for pair in given.items() for word in ("-p", *pair)]
    code = main(["notebooks", *names, "--profile", "smoke", "--at-once", "2", "--out", str(folder), *options])
    failed = sorted(path.name for path in folder.glob("*.failed.ipynb"))
    assert code == 0 and not failed, failed
    yield folder
    patch.undo()


@pytest.fixture
def results(folder):
    """The executed notebooks, by name."""
    return {path.stem: path for path in sorted(folder.glob("*.ipynb"))}


def test_every_solution_runs_and_has_output(results):
    for name in [path.stem for path in ALL if path.stem in results]:
        pairs, _ = exercises(nbformat.read(results[name], as_version=4))
        assert all(solution.execution_count and solution.outputs for _, solution in pairs), name


def test_no_bar_and_no_warning_is_on_a_page(results):
    for name, one in results.items():
        for cell in nbformat.read(one, as_version=4).cells:
            for output in cell.get("outputs", []):
                said = output.get("text", "") if output.output_type == "stream" else ""
                assert "Warning" not in said and "\r" not in said, (name, said)
                assert "application/vnd.jupyter.widget-view+json" not in output.get("data", {}), name


def test_from_scratch_takes_only_weights_from_the_library():
    book = nbformat.read(notebooks.NOTEBOOKS / "01_from_scratch.ipynb", as_version=4)
    code = "\n".join(cell.source for cell in book.cells if cell.cell_type == "code")
    ours = re.findall(r"^ *(?:from|import) (liqe_core.*)", code.partition("model.score(")[0], re.MULTILINE)
    assert ours == ["liqe_core import LIQE", "liqe_core.commands.parameters import FromScratchParameters"]


def test_from_scratch_arrives_at_the_score_and_learns_by_heart(folder):
    out = folder / "from_scratch"
    (score,) = pd.read_csv(out / "score.csv").to_dict("records")
    assert score["by hand"] == pytest.approx(score["model.score"], abs=1e-3)
    joint = pd.read_csv(out / "similarity.csv")
    assert len(joint) == 495 and joint["probability"].sum() == pytest.approx(1, abs=1e-5)
    by_probability = joint.sort_values("probability")
    assert by_probability["similarity"].is_monotonic_increasing, (
        "the right map is the softmax of the left one"
    )
    curves = pd.read_csv(out / "overfitting.csv")
    total = curves[["quality_loss", "scene_loss", "distortion_loss"]].sum(axis=1)
    assert curves["step"].tolist() == list(range(19)) and total.iloc[-1] < total.iloc[0] / 2
    known = pd.read_csv(out / "known_by_heart.csv", index_col="measure")
    assert (known["after"].iloc[:3] >= known["before"].iloc[:3]).all()
    assert known["after"].iloc[0] >= 54 and (known["after"].iloc[1:3] >= 15).all(), "of 56 pairs and 16 words"


def test_concepts_are_computed(folder):
    out = folder / "concepts"
    pair = pd.read_csv(out / "losses_of_a_pair.csv").pivot(index="difference", columns="loss")
    value, push = pair["value"], pair["gradient"].abs()
    assert value["fidelity"].max() < 1 < value["cross-entropy"].max()
    p = norm.cdf(value.index.to_numpy())
    assert value["cross-entropy"].to_numpy() == pytest.approx(-np.log(p), rel=1e-4)
    assert value["fidelity"].to_numpy() == pytest.approx(1 - np.sqrt(p), abs=2e-4)
    assert push["cross-entropy"].is_monotonic_decreasing and not push["fidelity"].is_monotonic_decreasing
    both = pd.read_csv(out / "same_marginals.csv").set_index("which")
    sums = both.groupby("which")[["blur", "noise"]].sum()
    assert sums.loc["joint"].to_numpy() == pytest.approx(sums.loc["product"].to_numpy())
    asked = pd.read_csv(out / "why_blind.csv").set_index("image")
    errors, quality = asked["squared error"], asked["quality"]
    assert errors["a little brighter"] == pytest.approx(errors["compressed"], rel=0.1)
    assert quality["compressed"] < quality["a little brighter"] < quality["as it is"] + 0.5


def test_quickstart_shows_a_distribution(folder):
    joint = pd.read_csv(folder / "quickstart" / "joint.csv")
    assert len(joint) == 495 and joint["probability"].sum() == pytest.approx(1, abs=1e-5)
    answer = pd.read_csv(folder / "quickstart" / "answer.csv")
    sums = answer.groupby("axis")["probability"].sum()
    assert set(sums.index) == {"quality", "scene", "distortion"}
    assert sums.to_numpy() == pytest.approx(np.ones(3), abs=1e-5)
    crops = pd.read_csv(folder / "quickstart" / "crops.csv")
    windows = (451 - 288) // 32 + 1  # side by side in the photograph of 451 x 300 pixels
    assert len(crops) == windows and crops["quality"].between(1, 5).all()


def test_quickstart_marks_wrong_scenes_and_quality_falls_as_faults_rise(folder):
    sheet = pd.read_csv(folder / "quickstart" / "sheet.csv")
    right = [scene in labels.split(";") for scene, labels in sheet[["scene", "labelled"]].to_numpy()]
    assert len(sheet) == 12 and sheet["right"].tolist() == right
    curves = pd.read_csv(folder / "quickstart" / "fault_curves.csv")
    quality = curves.pivot(index="level", columns="fault", values="quality")
    assert quality.shape == (6, 4) and (quality.loc[0] - quality.loc[5] > 1).all()
    assert curves.loc[curves["level"] == 5, "named"].all()


def test_quickstart_draws_static_figures_without_a_user(folder):
    turned = pd.read_csv(folder / "quickstart" / "explorer.csv")
    named = turned.groupby(["position", "distortion"])["probability"].sum().unstack().idxmax(axis=1)
    right = {"JPEG 4": "jpeg compression", "blur 3": "blur", "noise 5": "noise"}
    assert {position: named[position] for position in right} == right
    book = nbformat.read(folder / "00_quickstart.ipynb", as_version=4)
    (sliders,) = [cell for cell in book.cells if "someone_there()" in cell.source]
    assert not sliders.outputs, "no widget where no kernel answers"
    outputs = json.dumps([cell.outputs for cell in book.cells if cell.cell_type == "code"])
    assert str(folder) not in outputs, "no folder of this machine"


def test_data_preparation_writes_labels_and_the_state_of_the_papers_datasets(folder):
    table = pd.read_csv(folder / "data_preparation" / "mini_labels.csv")
    # 5 photographs x 4 distortions x 3 levels, less the grey one's colour distortion; as they are, and varied
    assert len(table) == 2 * (5 * 4 * 3 - 3)
    overview = pd.read_csv(folder / "data_preparation" / "data_sets.csv").set_index("dataset")
    assert overview.loc[["live", "csiq", "kadid10k", "bid", "clive", "koniq10k"], "role"].eq("train").all()
    assert overview.loc["mini", "state"] == "built in" and overview.loc["mini", "images"] > 0
    assert overview.loc["tid2013", "state"] == "absent"
    assert (folder / "data_preparation" / "own" / "holiday.yaml").exists()


@needs_mirror
def test_data_preparation_tells_the_story_of_the_real_labels(folder):
    summary = pd.read_csv(folder / "data_preparation" / "summary.csv").set_index("dataset")["images"]
    published = {"live": 779, "csiq": 866, "kadid10k": 10125, "bid": 586, "clive": 1162, "koniq10k": 10073}
    assert {name: summary[name] for name in published} == published
    counted = pd.read_csv(folder / "data_preparation" / "label_counts.csv")
    kept = pd.read_csv(manifest_dir() / "label_counts.csv")
    counted = counted[counted["dataset"].isin(kept["dataset"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(counted, kept, check_dtype=False)
    for name in ("live_fast_fading.csv", "audits.csv", "koniq10k_worst_to_best.png"):
        assert (folder / "data_preparation" / name).exists()


def test_training_leaves_runs_and_their_measures(folder):
    results = pd.read_csv(folder / TRAINING / "test_results.csv")
    assert set(results["session"]) == {1, 2} and results["srcc"].between(-1, 1).all()
    curves = pd.read_csv(folder / TRAINING / "training_curves.csv")
    untrained = curves[curves["epoch"] < 0]
    assert untrained["run"].tolist() == [1, 2] and untrained["srcc"].notna().all(), "before training"
    starts = pd.read_csv(folder / TRAINING / "two_starts.csv")
    assert (starts.groupby("start")["images"].min() == 0).all()
    assert "majority class" in pd.read_csv(folder / TRAINING / "test_summary.csv")
    for run in (folder / "train").iterdir():
        assert json.loads((run / "settings.json").read_text())["settings"]["name"] == "smoke"
        assert (run / "best_average.safetensors").exists()


def test_ablations_show_the_open_study_first(folder):
    out = folder / "ablations"
    table = pd.read_csv(out / "ablation_open.csv").set_index("level")
    assert list(table.index) == list(VARIANTS) and table["low"].iloc[1:].notna().all(), "intervals"
    assert table["runs"].iloc[0] > 1, "several seeds"
    crops = pd.read_csv(out / "crops_in_testing.csv")
    assert set(crops["crops"]) == {1, 5, 15} and (crops["low"] <= crops["high"]).all()


def test_ablations_of_your_own_come_from_runs_that_differ_in_one_setting(folder):
    out = folder / "ablations"
    runs = pd.read_csv(out / "runs.csv")
    assert runs["all else equal"].all() and (runs.groupby("study")["steps"].nunique() == 1).all()
    table = pd.read_csv(out / "ablation_variant.csv").set_index("level")
    assert list(table.index) == list(VARIANTS) and table["trained_briefly"].all(), "no sweep ran before"
    assert not list(out.glob("ablation_variant*.png")), "no figure of single brief runs"
    assert "paper" not in table, "the paper's means are not shown next to short runs"
    control = pd.read_csv(out / "ablation_control.csv", keep_default_na=False)
    assert list(control["level"]) == ["", "shuffled labels", "quality alone", "separate heads"]
    assert control["runs"].eq(1).all() and control["mean"].iloc[0] == table["mean"].iloc[-1]
    excluded = pd.read_csv(out / "excluded.csv")
    assert excluded["reason"].str.contains("epochs: 1 -> 3").sum() >= 2, "the two sessions that 04 trained"


def test_paper_tables_say_why_a_cell_is_blank(folder):
    out = folder / "paper_tables"
    compared = pd.read_csv(out / "within_set_compared.csv")
    assert compared["ours"].isna().all() and compared["reason"].str.startswith("no run: ").all()
    koniq = compared[(compared["dataset"] == "koniq10k") & (compared["metric"] == "SRCC")]
    assert set(koniq["published"]) == {0.919, 0.928} and koniq["differs"].notna().any()
    shown = pd.read_csv(out / "within_set.csv")["method"]
    assert "LIQE" in set(shown) and "MUSIQ" not in set(shown)
    unseen = pd.read_csv(out / "unseen_compared.csv")
    assert unseen["reason"].notna().all() and {"tid2013", "spaq", "pipal"} <= set(unseen["dataset"])
    accuracies = pd.read_csv(out / "accuracies.csv").set_index("metric")
    assert accuracies.loc["SRCC", "sessions"] == 2
    counts = pd.read_csv(out / "confusion_distortion.csv", index_col="label")
    assert counts.to_numpy().sum() == 12, "the test part: one photograph, 4 distortions, 3 levels"


def test_gmad_finds_pairs_on_the_built_in_images(folder):
    out = folder / "gmad"
    scores = pd.read_csv(out / "scores.csv").set_index("image")
    assert list(scores.columns) == ["liqe-tiny", "sharpness", "file size", "error"] and len(scores) == 12
    pairs = pd.read_csv(out / "pairs.csv")
    assert len(pairs) == 4 and (pairs["reason"].isna()).any()
    assert (out / "disagreement.csv").exists()
    assert not (out / "own_attack_resistance.csv").exists(), "nobody scored these images: no judge"


def test_gmad_is_judged_by_mos(folder, results):
    verdicts = pd.read_csv(folder / "gmad" / "open_verdicts.csv")
    arms = [arm.name for arm in ARMS if " " not in arm.name]  # those that were trained on all scores
    assert verdicts.groupby("side")["scorer"].agg(sorted).tolist() == [sorted(arms)] * 2
    ranking = pd.read_csv(folder / "gmad" / "open_attack_resistance.csv")
    assert set(ranking["scorer"]) == set(verdicts["scorer"])
    arms = pd.read_csv(KEPT / "arms.csv").query("dataset == 'biq2021'")
    strongest = pd.read_csv(folder / "gmad" / "strongest.csv")
    assert len(strongest) == 4 and set(strongest["attacker"]) <= {"Q", "Q+S", "Q+D", "Q+S+D"}
    count = len(arms) - arms["near_duplicate"].sum()
    assert f"{count} images" in results["07_gmad"].read_text(), "without near-duplicates"


def test_realignment_recovers_artificial_scales(folder):
    out = folder / "realignment"
    check = pd.read_csv(out / "check.csv").set_index("dataset")
    assert (check["error after"] < 0.25).all()
    warped = check.drop(index="plain")
    assert (warped["error before"] > 2 * warped["error after"]).all()
    curves = pd.read_csv(out / "curves.csv")
    assert set(curves["model"]) == {"all tasks", "quality alone"} and len(curves) == 2 * 4
    assert (curves["shift"].notna() | curves["reason"].notna()).all()
    scores = pd.read_csv(out / "scores.csv")
    arms = pd.read_csv(KEPT / "arms.csv").query("dataset == 'biq2021' and not near_duplicate")
    assert len(scores) == len(arms) and scores["image"].is_unique, "no sweep ran: the kept predictions"
    fair = pd.read_csv(out / "thrown_together.csv").set_index("realignment")
    assert list(fair.index) == ["not realigned", "all tasks", "quality alone"]
    assert fair["images"].nunique() == 1, "all are judged on the same"


def test_two_real_scales_are_judged_on_the_half_that_was_not_fitted(folder):
    out = folder / "realignment"
    curves = pd.read_csv(out / "two_scales_arms.csv").set_index(["arm", "dataset"])
    assert set(curves.index) == set(product(("Q", "Q+S+D"), ("biq2021", "hevc as shown")))
    scores = pd.read_csv(out / "two_scales_scores.csv")
    assert scores["naive"].between(1, 5).all(), "by each dataset's own range"
    assert scores.groupby("dataset")["fitted"].mean().between(0.49, 0.51).all()
    assert (curves["judged"] <= curves["count"] - curves["count"] // 2).all() and (curves["held"] > 0).all()


def test_half_precision_is_counted(folder):
    out = folder / "half_precision"
    weights = pd.read_csv(out / "one_weight.csv")
    assert weights["stuck"].tolist() == [False] * 3 + [True] * 2
    kinds = pd.read_csv(out / "stuck.csv")
    assert (kinds["stuck"] <= kinds["stuck_at_part"]).all() and kinds["stuck"].between(0, 1).all()
    schedule = pd.read_csv(out / "schedule.csv")
    assert schedule["epochs"].sum() == 80 and schedule["rounded away"].is_monotonic_decreasing


def test_every_figure_shows_something_and_is_redrawn_from_disk_as_it_was_drawn(folder, tmp_path):
    names, paths = list_figures(), sorted(path.with_suffix(".json") for path in folder.rglob("*.svg"))
    assert len(paths) >= 10
    for path in paths:
        assert path.stem in names or path.stem.endswith("_worst_to_best")
        drawn = np.asarray(Image.open(path.with_suffix(".png")))
        assert min(drawn.shape[:2]) > 100 and drawn.std() > 5, "there is something on it"
        for saved in filter(None, (path, find(path.stem, KEPT / "figures"))):
            save(read(saved).draw(), tmp_path, path.stem, suffixes=["png"])
            again = np.asarray(Image.open(tmp_path / f"{path.stem}.png"))
            assert drawn.shape == again.shape and (drawn == again).all(), saved


def test_every_figure_has_an_alternative_text(results):
    for name, one in results.items():
        book = nbformat.read(one, as_version=4)
        shown = [output for cell in book.cells for output in cell.get("outputs", [])]
        figures = [output for output in shown if "image/png" in output.get("data", {})]
        assert figures, name
        for output in figures:
            alt = output.metadata.get("image/png", {}).get("alt", "")
            assert len(alt) > 30 and "nan" not in alt, f"{name}: {alt!r}"


@pytest.fixture
def books(tmp_path, monkeypatch):
    """Writes notebooks of a cell of parameters and one for each piece of code, in place of ours."""
    source = tmp_path / "notebooks"
    source.mkdir()
    shutil.copy(notebooks.NOTEBOOKS / "rules.mk", source)
    monkeypatch.setattr(notebooks, "NOTEBOOKS", source)
    parameters = 'profile: str = "mini"  # any\nout_dir: str = ""  # a folder'

    def write(**pieces):
        for name, codes in pieces.items():
            nbformat.write(book_of(parameters, *codes), source / f"{name}.ipynb")
        return list(pieces)

    return write


def test_a_notebook_that_fails_keeps_its_traceback_and_the_others_run(tmp_path, books, capfd):
    out = tmp_path / "out"
    names = books(**{"00_bad": ["raise ValueError('the reason')"], "01_good": ["print(1)"]})
    assert main(["notebooks", *names, "--out", str(out)]) == 1
    assert (out / "01_good.ipynb").exists() and not (out / "00_bad.ipynb").exists()
    assert "the reason" in (out / "00_bad.failed.ipynb").read_text()
    assert "ValueError: the reason" in capfd.readouterr().out
    books(**{"00_bad": ["print(2)"]})
    assert main(["notebooks", "bad", "--out", str(out)]) == 0
    assert (out / "00_bad.ipynb").exists() and not (out / "00_bad.failed.ipynb").exists()


MEET = """
import os, time
from pathlib import Path
def meet(own, other):
    Path(out_dir, own).write_text(os.environ["OMP_NUM_THREADS"])
    for _ in range(600):
        if Path(out_dir, other).exists():
            return
        time.sleep(0.1)
    raise TimeoutError(f"{other} does not run beside {own}")
"""


def test_two_at_once_run_side_by_side_on_a_share_of_the_cores(tmp_path, books, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    names = books(**{"00_a": [MEET, "meet('a', 'b')"], "01_b": [MEET, "meet('b', 'a')"]})
    assert notebooks.run_all(names, tmp_path / "out", {}, at_once=2) == 0
    assert (tmp_path / "out" / "a").read_text() == str(max(1, os.cpu_count() // 2))


def test_notebooks_run_after_their_prerequisites_and_only_on_request(tmp_path, books):
    log = "from pathlib import Path\nwith open(Path(out_dir, 'log'), 'a') as file: file.write('{} ')"
    order = ["04_multitask_training", "05_ablations", "07_gmad"]
    books(**{name: [log.format(name)] for name in order})
    assert notebooks.run_all(order[::-1], tmp_path / "out", {}, at_once=2) == 0
    assert (tmp_path / "out" / "log").read_text().split() == order
    assert notebooks.run_all(["05_ablations"], tmp_path / "out", {}) == 0
    assert (tmp_path / "out" / "log").read_text().split() == [*order, "05_ablations"]


def test_make_runs_missing_and_outdated_notebooks(tmp_path, books):
    log = "from pathlib import Path\nwith open(Path(out_dir, 'log'), 'a') as file: file.write(profile + ' ')"
    books(**{"00_book": [log]})
    make = ["make", "-f", str(notebooks.NOTEBOOKS / "rules.mk")]
    make += [f"RUN={tmp_path / 'out'}", f"LIQE_PYTHON={sys.executable}"]
    for profile in ("mini", "mini", "smoke"):
        (tmp_path / "out").mkdir(exist_ok=True)
        notebooks.write_parameters(tmp_path / "out", {"profile": profile})
        subprocess.run(make, check=True, timeout=120)
    assert (tmp_path / "out" / "log").read_text().split() == ["mini", "smoke"]


SAVES_SLOWLY = """
import os, signal, time
from pathlib import Path
try:
    os.kill(int(os.environ["RUNNER"]), signal.SIGTERM)
    time.sleep(60)
except KeyboardInterrupt:
    time.sleep(8)  # longer than Jupyter waits by itself
    Path(out_dir, "saved").touch()
    raise
"""


def test_a_signal_stops_after_the_cell_has_saved(tmp_path, books, interruptible, monkeypatch, capsys):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setenv("RUNNER", str(os.getpid()))
    further = "from pathlib import Path\nPath(out_dir, 'further').touch()"
    books(**{"10_long": [SAVES_SLOWLY, further], "11_next": [further]})
    out = tmp_path / "out"
    assert main(["notebooks", "10", "11", "--out", str(out)]) == 128 + signal.SIGTERM
    assert (out / "saved").exists() and not (out / "further").exists()
    assert not (out / "10_long.ipynb").exists() and not (out / "11_next.ipynb").exists()
    assert not list((tmp_path / "temporary").iterdir())
    assert "same command" in capsys.readouterr().err
