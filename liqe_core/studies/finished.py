"""Finished runs, read from their folders: what each was, and what came out."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from liqe_core.training.profiles import completed
from liqe_core.training.runs import fingerprint, is_finished, read_results

EXCLUDED = ["run", "reason"]


@dataclasses.dataclass(frozen=True)
class FinishedRun:
    """What a run folder says about its run.

    Attributes:
        folder: where it is. settings, data, versions, code: as in ``settings.json``.
        results: as in ``results.csv``.
        steps: how many were taken. schedule: equal for runs with the same learning rate at every step and
            the same batches left out.
    """

    folder: Path
    settings: dict
    data: dict
    versions: dict
    code: dict
    results: pd.DataFrame
    steps: int
    schedule: str

    @property
    def repeat(self) -> tuple[int, int]:
        """(session, seed)."""
        return self.settings["session"], self.settings["seed"]

    def epochs(self) -> pd.DataFrame:
        """``epochs.csv``: losses, weights and validation, a row an epoch."""
        return pd.read_csv(self.folder / "epochs.csv")

    def checkpoint(self, criterion: str = "quality") -> Path:
        """The file of the kept checkpoint that was best at a criterion; every variant has ``quality``."""
        return self.folder / f"best_{criterion}.safetensors"


class Chosen(NamedTuple):
    """Runs that differ in one setting alone, and what was left out: columns `run`, `reason`."""

    runs: list[FinishedRun]
    excluded: pd.DataFrame


def read_runs(root: str | Path) -> Chosen:
    """Every finished run below ``root/train``, in order of name.

    Returns:
        The runs, and the folders that cannot be read as one, each with its reason.
    """
    runs, excluded = [], []
    for folder in sorted(path for path in (Path(root) / "train").glob("*") if path.is_dir()):
        try:
            runs.append(read_run(folder))
        except ValueError as error:
            excluded.append((folder.name, str(error)))
    return Chosen(runs, pd.DataFrame(excluded, columns=EXCLUDED))


def read_run(folder: str | Path) -> FinishedRun:
    """One finished run from its folder.

    Raises:
        ValueError: it is not finished, or cannot be read; says so in a few words, without the folder.
    """
    folder = Path(folder)
    if not is_finished(folder):
        raise ValueError("not finished")
    try:
        said = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
        steps = pd.read_csv(folder / "steps.csv")[["epoch", "step", "learning_rate", "skipped"]]
        schedule = fingerprint(steps)
        parts = {part: dict(said[part]) for part in ("settings", "data", "versions", "code")}
        parts["settings"] = completed(parts["settings"])
        results, count = read_results(folder), len(steps)
        run = FinishedRun(folder, **parts, results=results, steps=count, schedule=schedule)
        run.repeat  # noqa: B018, settings without session or seed are damaged ones
        return run
    except (OSError, ValueError, KeyError, TypeError) as error:
        why = f"cannot be read ({type(error).__name__}: {error})"
        raise ValueError(" ".join(why.split())) from error
