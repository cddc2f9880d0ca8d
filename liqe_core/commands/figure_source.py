"""What ``liqe figure`` draws from: a folder of finished runs, what the notebooks left there, kept tables."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pandas as pd

from liqe_core.images import read_picture
from liqe_core.studies import open_benchmark, paper_check, shown
from liqe_core.studies.finished import FinishedRun, read_run, read_runs
from liqe_core.training.prepare import picture_folder


class LackingError(ValueError):
    """What a figure needs is not there; the message says what, and what to do."""


class Source:
    """A folder to draw from.

    Args:
        folder: of one run; or one whose ``train/`` holds runs, where notebooks leave their tables too; or
            None.
        pictures: the folder of the pictures that a figure shows; None: where the runs' data sets lie.

    Raises:
        LackingError: no such folder, or it holds neither runs nor tables of notebooks, or an unfinished run.
    """

    def __init__(self, folder: str | Path | None = None, pictures: str | Path | None = None) -> None:
        self.folder = Path(folder) if folder else None
        self.pictures = Path(pictures) if pictures else None
        if self.pictures and not self.pictures.is_dir():
            raise LackingError(f"{self.pictures}: no such folder of pictures")
        if self.folder is None:
            return
        if not self.folder.is_dir():
            raise LackingError(f"{self.folder}: no such folder; give that of a run, or of a profile's runs")
        if (self.folder / "settings.json").is_file():
            self.runs  # noqa: B018, one that is not finished is told at once
        elif not (self.folder / "train").is_dir() and not any(self.folder.glob("*/*.csv")):
            raise LackingError(
                f"{self.folder}: no run (it has no settings.json), no folder of runs (it has no train/), and "
                "no notebook has left tables there; runs/mini is such a folder once `liqe notebooks` has run"
            )

    @functools.cached_property
    def runs(self) -> list[FinishedRun]:
        """Its finished runs, at least one."""
        if self.folder is None:
            raise LackingError("it is drawn from a run: name its folder with --run")
        if (self.folder / "settings.json").is_file():
            try:
                return [read_run(self.folder)]
            except ValueError as error:
                why = f"the run is {error}" if str(error) == "not finished" else f"the run {error}"
                then = "; `liqe train` and `liqe sweep` go on with it" if "finished" in why else ""
                raise LackingError(f"{self.folder}: {why}{then}") from None
        runs, excluded = read_runs(self.folder)
        if not runs:
            there = f"; {len(excluded)} are not finished or cannot be read" if len(excluded) else ""
            raise LackingError(f"{self.folder}: no finished run in {self.folder / 'train'}{there}")
        return runs

    @property
    def repeats(self) -> list[FinishedRun]:
        """Of its runs those of one recipe; see `shown.repeats`."""
        return shown.repeats(self.runs)

    @functools.cached_property
    def answers(self) -> shown.Answers:
        """See `shown.answers`, of the first of `repeats`."""
        return shown.answers(self.repeats[0])

    @property
    def checks(self) -> list[paper_check.Check]:
        """Weights that `liqe check` measured there."""
        return paper_check.read_checks(self.folder) if self.folder else []

    def path(self, name: str) -> Path | None:
        """A file that a notebook left, such as ``realignment/panels.csv``; None where it did not."""
        path = self.folder / name if self.folder else None
        return path if path and path.is_file() else None

    def table(self, name: str) -> pd.DataFrame:
        """A table that a notebook left, such as ``realignment/panels``.

        Raises:
            LackingError: it is not there.
        """
        path, notebook = self.path(f"{name}.csv"), name.split("/")[0]
        if path is None:
            where, below = self.folder or "runs/mini", self.folder or "the folder of --run"
            raise LackingError(
                f"it is drawn from {name}.csv below {below}, which the notebook leaves: "
                f"`liqe notebooks {notebook} --out {where}` makes it, and trains no finished run again"
            )
        return _read(path)

    def kept(self, name: str) -> pd.DataFrame:
        """A table of the open benchmark that comes with the repository."""
        path = open_benchmark.KEPT / f"{name}.csv"
        if not path.is_file():
            raise LackingError(
                f"it is drawn from {path}, which is not in the repository yet; 06_open_benchmark makes it "
                "with `recompute`"
            )
        return _read(path)

    def picture(self, name: str) -> Path:
        """The file of a picture of the runs' data sets, or in the given folder."""
        folders = [self.pictures] if self.pictures else self._folders
        for folder in folders:
            if (folder / name).is_file():
                return folder / name
        raise LackingError(
            f"the picture {name} is not in {' or '.join(map(str, folders))}: name its folder with --pictures"
        )

    @functools.cached_property
    def _folders(self) -> list[Path]:
        settings = shown.settings_of(self.repeats[0])
        return [picture_folder(name, settings) for name in settings.batch_sizes]

    def array(self, name: str):
        """The pixels of `picture`, (H, W, 3) uint8."""
        return np.asarray(read_picture(self.picture(name)))


def _read(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path)
    except (ValueError, OSError) as error:
        raise LackingError(f"{path}: cannot be read ({' '.join(str(error).split())})") from None
