"""``liqe figure``: a figure or table of the notebooks drawn again, for a paper, a slide or a screen.

What a notebook saved is read from its ``NAME.json``, below the folder of runs or, of kept tables, in
``data_manifests/open/figures``. What finished runs themselves tell needs no notebook (`of_runs`).
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
from liqe_core.training.prepare import scored_by_people

#: What finished runs tell at once, and what their models have to be asked for.
FROM_RUNS = ("training_curves", "test_results", "loss_weights")
FROM_MODELS = ("agreement", "confusion_scene", "confusion_distortion")


@functools.cache
def list_figures() -> dict[str, Listed]:
    """Every figure by name, those of a notebook together; registers what draws them."""
    for module in pkgutil.iter_modules(figures.__path__):
        importlib.import_module(f"{figures.__name__}.{module.name}")
    tests = Listed("multitask_training", "What each session reached on its test parts.")
    listed = LIST | {"test_results": tests}  # a table that finished runs tell
    return dict(sorted(listed.items(), key=lambda item: item[1].notebook))


def redraw(name: str, drawing: Drawing, out: str | os.PathLike, sheets: Sequence[str] = ()) -> list[Path]:
    """Draw a figure or write a table; trains nothing.

    Args:
        out: the folder for ``NAME.pdf``, ``.svg``, ``.png`` (300 dots an inch) and what it was drawn from; of
            a table only that, and ``.tex`` (LaTeX, for the package booktabs), which an ablation has too.
        sheets: style sheets on top of a notebook's; see `figures.style.drawn_as`.

    Returns:
        The files.

    Raises:
        OSError: the folder cannot be written.
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
    """A table for LaTeX with booktabs: numbers to three digits, nothing where there is none, and headers and
    cells of one line each."""
    if any(table.index.names):
        table = table.reset_index()
    table = table.set_axis([" ".join(str(name).split()) for name in table.columns], axis=1)
    # Counts that were floats for want of a value are whole again.
    table = table.convert_dtypes().astype(object).replace(r"\s+", " ", regex=True)
    return table.to_latex(index=False, escape=True, float_format="%.3f", na_rep="")


def find_drawing(name: str, folder: Path | None = None, images: Path | None = None) -> Drawing:
    """What a figure is drawn from.

    Args:
        folder: of one run; or one whose ``train/`` holds runs, where notebooks save too; None: kept tables.
        images: the folder of the images that a figure shows; None: where they lay when it was saved.

    Raises:
        ValueError: no figure has this name; or it is not there, or cannot be read. Says what to do.
    """
    names = list_figures()
    if name not in names and not (folder and find(name, folder)):
        near = difflib.get_close_matches(name, names, 3, 0.4) or [known for known in names if name in known]
        hint = f"did you mean {', '.join(near)}? " if near else ""
        raise ValueError(f"no figure or table {name!r}; {hint}`liqe figure --list` names them all")
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
    origin = f"below {folder}" if folder else "among the kept tables, and no folder is given with --run"
    raise ValueError(f"{name} is not {origin}: `{command}` makes it, and trains no finished run again")


def read_folder(folder: Path) -> list[FinishedRun]:
    """The finished run in a folder, or those in its ``train/``; at least one.

    Raises:
        ValueError: there is none; says why.
    """
    if (folder / "settings.json").is_file():
        try:
            return [read_run(folder)]
        except ValueError as error:
            raise ValueError(f"{folder}: the run is {error}; `liqe train` goes on with it") from None
    if not (folder / "train").is_dir():
        raise ValueError(f"{folder}: no run (it has no settings.json) and no folder of runs (no train/)")
    runs, excluded = read_runs(folder)
    if not runs:
        raise ValueError(f"{folder}: no finished run in train/; {len(excluded)} are unfinished or damaged")
    return runs


def of_runs(name: str, runs: Sequence[FinishedRun]) -> Drawing:
    """What a figure or table of finished runs is drawn from; of several recipes the one with most runs.

    Args:
        name: of `FROM_RUNS` or `FROM_MODELS`, or an ablation.

    Raises:
        ValueError: the runs cannot be compared, their weights are gone, or did not learn what is asked for.
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
        with contextlib.suppress(ValueError):  # one recipe alone
            repeats = ablations.largest_comparable(runs, study)
        return Drawing(name, {"epochs": ablations.loss_weights(repeats, study)}, {"levels": study.levels})
    answers, session = finished.predict_test_parts(repeats[0]), repeats[0].repeat[0]
    if name == "agreement":
        dataset = next(iter(repeats[0].settings.data.batch_sizes))
        table = answers.table().query("dataset == @dataset")[["image", "mos", "quality", "distortion_group"]]
        kind = "human score" if scored_by_people(dataset) else "stand-in score (mean opinion of its fault)"
        title = f"{dataset}, session {session}, {len(table)} images"
        return Drawing(name, {"table": table}, {"title": title, "score": kind})
    axis = name.removeprefix("confusion_")
    if axis not in answers.model.grid.axes:
        raise ValueError(f"the runs did not learn the {axis}")
    title = f"{axis}, test part of session {session}, share of each row"
    return Drawing("confusion", {"matrix": answers.confusion(axis)}, {"title": title})


def run_figure(options: argparse.Namespace) -> int:
    """List figures, or draw some."""
    if options.list:
        for name, (notebook, sentence) in list_figures().items():
            from_runs = name in (*FROM_RUNS, *FROM_MODELS) or name.startswith("ablation_")
            origin = "from finished runs, or" if from_runs else "from"
            print(f"{name:24} {sentence}\n{'':24} {origin} the notebook {notebook}")
        return 0
    if not options.names:
        raise ValueError("name a figure, or ask for --list")
    if options.width and options.style != "paper":
        raise ValueError(f"--width is for --style paper; {options.style} has its own")
    for folder in (options.folder, options.images):
        if folder and not folder.is_dir():
            raise ValueError(f"{folder}: no such folder")
    # All of them before any is drawn.
    drawings = {name: find_drawing(name, options.folder, options.images) for name in options.names}
    sheets = [options.style] if options.style != "notebook" else []
    sheets += ["page"] if options.width == "page" else []
    sheets += ["dark"] if options.dark else []
    for name, drawing in drawings.items():
        for path in redraw(name, drawing, options.out or runs_dir("figures"), sheets):
            print(path)
    return 0
