"""``liqe figure``: redraw figures and tables of the notebooks for a paper, slides or a screen.

The data that a notebook saved is read from ``NAME.json``, below the folder of the runs or, for committed
tables, in ``data_manifests/open/figures``. Some figures are made from finished runs directly (`of_runs`).
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import functools
import importlib
import os
import pkgutil
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from liqe_core import figures
from liqe_core.data.manifests import manifest_dir
from liqe_core.figures.saving import LIST, Drawing, Listed, find, read, save
from liqe_core.figures.style import drawn_as
from liqe_core.files import runs_dir, write_text
from liqe_core.studies import ablations, finished
from liqe_core.studies.finished import FinishedRun, read_run, read_runs
from liqe_core.training.prepare import kind_of_score

#: Figures and tables from the files of finished runs, and those that need predictions of their models.
FROM_RUNS = ("training_curves", "test_results", "loss_weights")
FROM_MODELS = ("agreement", "confusion_scene", "confusion_distortion")


@functools.cache
def list_figures() -> dict[str, Listed]:
    """Return all figures by name, ordered by notebook; imports the modules that register them."""
    for module in pkgutil.iter_modules(figures.__path__):
        importlib.import_module(f"{figures.__name__}.{module.name}")
    tests = Listed("multitask_training", "Results of each session on its test parts.")
    listed = LIST | {"test_results": tests}  # a table from the files of finished runs
    return dict(sorted(listed.items(), key=lambda item: item[1].notebook))


def redraw(name: str, drawing: Drawing, out: str | os.PathLike, sheets: Sequence[str] = ()) -> list[Path]:
    """Draw a figure or write a table, without training.

    Args:
        out: output folder. A figure has ``NAME.pdf``, ``.svg``, ``.png`` (300 dpi) and its data; a table has
            its data and ``.tex`` (LaTeX with the package booktabs); an ablation has all of these.
        sheets: style sheets in addition to those of the notebooks; see `figures.style.drawn_as`.

    Returns:
        The written files.

    Raises:
        OSError: the folder is not writable.
    """
    out = Path(out)
    if drawing.function:
        with drawn_as(*sheets, "print"):
            paths = save(drawing.draw(), out, name, ("pdf", "svg", "png"))
    else:
        paths = drawing.write(out, name)
    if drawing.function in ("", "ablation"):
        paths.append(out / f"{name}.tex")
        write_text(paths[-1], latex(drawing.table))
    return paths


def latex(table: pd.DataFrame) -> str:
    """Format a table for LaTeX with booktabs: three decimals, empty cells for missing values, and single-line
    headers and cells."""
    if any(table.index.names):
        table = table.reset_index()
    table = table.set_axis([" ".join(str(name).split()) for name in table.columns], axis=1)
    # Counts with missing values were floats; convert them to integers.
    table = table.convert_dtypes().astype(object).replace(r"\s+", " ", regex=True)
    return table.to_latex(index=False, escape=True, float_format="%.3f", na_rep="")


def find_drawing(name: str, folder: Path | None = None, images: Path | None = None) -> Drawing:
    """Find the data of a figure.

    Args:
        folder: folder of a run, or folder of a notebook or sweep with runs in ``train/``; None: committed
            tables.
        images: folder of the images in the figure; None: their folder when the figure was saved.

    Raises:
        ValueError: no figure has this name, or its data is missing or unreadable; says what to do.
    """
    names = list_figures()
    if name not in names and not (folder and find(name, folder)):
        near = difflib.get_close_matches(name, names, 3, 0.4) or [known for known in names if name in known]
        hint = f"did you mean {', '.join(near)}? " if near else ""
        raise ValueError(f"no figure or table {name!r}; {hint}`liqe figure --list` lists all names")
    problem: ValueError | None = None
    if folder and (name in FROM_RUNS or name.startswith("ablation_")):
        try:
            return of_runs(name, read_folder(folder))
        except ValueError as error:
            problem = error
    for place in (folder, manifest_dir() / "open" / "figures"):
        if path := place and find(name, place):
            return read(path, images)
    if folder and name in FROM_MODELS:
        return of_runs(name, read_folder(folder))
    if problem:
        raise problem
    command = f"liqe notebooks {names[name].notebook} --out {folder or runs_dir('mini')}"
    origin = f"below {folder}" if folder else "among the committed tables, and --run is not set"
    raise ValueError(f"{name} is not {origin}; `{command}` makes it (finished runs are reused)")


def read_folder(folder: Path) -> list[FinishedRun]:
    """Read the finished run in a folder, or the finished runs in its ``train/``.

    Raises:
        ValueError: the folder has no finished run; the message says why.
    """
    if (folder / "settings.json").is_file():
        try:
            return [read_run(folder)]
        except ValueError as error:
            raise ValueError(f"{folder}: the run is {error}; `liqe train` resumes it") from None
    if not (folder / "train").is_dir():
        raise ValueError(f"{folder}: neither a run (no settings.json) nor a folder of runs (no train/)")
    runs, excluded = read_runs(folder)
    if not runs:
        raise ValueError(f"{folder}: no finished run in train/; {len(excluded)} are unfinished or damaged")
    return runs


def of_runs(name: str, runs: Sequence[FinishedRun]) -> Drawing:
    """Compute the data of a figure or table from finished runs.

    Runs must have comparable settings; of several groups of such runs, the largest is used.

    Args:
        name: a name in `FROM_RUNS` or `FROM_MODELS`, or an ablation.

    Raises:
        ValueError: the runs are not comparable, their weights are missing, or the models were not trained on
            the requested axis.
    """
    if name.startswith("ablation_"):
        study = ablations.STUDIES[name.removeprefix("ablation_")]
        chosen = ablations.largest_comparable(runs, study)
        ablated = ablations.summarise(chosen, study, chosen[0].settings.name.startswith("paper"))
        return Drawing("ablation", ablated._asdict(), {"reference": study.reference})
    repeats = finished.repeated_runs(runs)
    if name == "training_curves":
        return Drawing(name, {"epochs": finished.epoch_table(repeats)})
    if name == "test_results":
        return Drawing("", {"table": pd.concat([run.results for run in repeats], ignore_index=True)})
    if name == "loss_weights":
        study = ablations.STUDIES["variant"]
        with contextlib.suppress(ValueError):  # raised for runs of a single variant
            repeats = ablations.largest_comparable(runs, study)
        return Drawing(name, {"epochs": ablations.loss_weights(repeats, study)}, {"levels": study.levels})
    answers, session = finished.predict_test_parts(repeats[0]), repeats[0].repeat[0]
    if name == "agreement":
        dataset = next(iter(repeats[0].settings.data.batch_sizes))
        table = answers.table().query("dataset == @dataset")[["image", "mos", "quality", "distortion_group"]]
        title = f"{dataset}, session {session}, {len(table)} images"
        return Drawing(name, {"table": table}, {"title": title, "score": kind_of_score(dataset)})
    axis = name.removeprefix("confusion_")
    if axis not in answers.model.grid.axes:
        raise ValueError(f"the models of these runs do not predict the {axis}; use runs of another variant")
    title = f"{axis}, test part of session {session}, share of each row"
    return Drawing("confusion", {"matrix": answers.confusion(axis)}, {"title": title})


def run_figure(options: argparse.Namespace) -> int:
    """List the figures or draw some of them."""
    if options.list:
        for name, (notebook, sentence) in list_figures().items():
            from_runs = name in (*FROM_RUNS, *FROM_MODELS) or name.startswith("ablation_")
            origin = "from finished runs or" if from_runs else "from"
            print(f"{name:24} {sentence}\n{'':24} {origin} the notebook {notebook}")
        return 0
    if not options.names:
        raise ValueError("no figure named; give a name from `liqe figure --list`")
    if options.width and options.style != "paper":
        raise ValueError(f"--width needs --style paper; the style {options.style} has a fixed width")
    for folder in (options.folder, options.images):
        if folder and not folder.is_dir():
            raise ValueError(f"{folder}: no such folder")
    # Find the data of all figures before drawing any.
    drawings = {name: find_drawing(name, options.folder, options.images) for name in options.names}
    sheets = [options.style] if options.style != "notebook" else []
    sheets += ["page"] if options.width == "page" else []
    sheets += ["dark"] if options.dark else []
    for name, drawing in drawings.items():
        for path in redraw(name, drawing, options.out or runs_dir("figures"), sheets):
            print(path)
    return 0
