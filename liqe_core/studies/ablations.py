"""Ablations: find and compare finished runs that differ in a single setting.

An ablation is valid only if nothing else changed. The run folders show what changed: ``settings.json`` has a
run's settings and data, ``steps.csv`` the steps that it took. Runs with further differences are excluded and
listed with these differences.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from liqe_core.data.labelled import LabelledImages
from liqe_core.prompts import VARIANTS
from liqe_core.studies.finished import EXCLUDED, REPEATS, FinishedRun, SelectedRuns, read_runs
from liqe_core.studies.intervals import FEWEST, difference, mean_interval
from liqe_core.studies.paper_tables import load_published, paper_ablation
from liqe_core.training.prepare import sets_for
from liqe_core.training.profiles import Profile
from liqe_core.training.runs import differences
from liqe_core.training.side_by_side import fit_all


@dataclasses.dataclass(frozen=True)
class Study:
    """One setting to ablate.

    Attributes:
        setting: a field of `Profile`.
        levels: the values of the setting, in the order of the table.
        reference: the level that the others are compared with.
        meaning: a one-line description.
    """

    setting: str
    levels: tuple
    reference: object
    meaning: str

    def level(self, settings: Profile) -> object:
        """Return the study's level in a profile."""
        return settings.flat()[self.setting]


STUDIES = {
    study.setting: study
    for study in (
        Study("variant", VARIANTS, VARIANTS[0], "which tasks are learned together"),
        Study(
            "control",
            ("", "shuffled labels", "quality alone", "separate heads"),
            "",
            "which part of LIQE matters (empty: LIQE with all three tasks): shuffled labels remove the "
            "information in scenes and distortions, quality alone keeps only the prompts, separate heads "
            "use no words",
        ),
        Study("weighting", ("equal", "dwa"), "equal", "how the losses are weighted"),
        Study("freeze", ("", "text", "image", "all"), "", "which tower is frozen (all: both)"),
        Study("crops", (1, 3, 5), 3, "the number of crops of an image in a training step"),
        Study(
            "template",
            ("", "a {quality} photo of a {scene} with {distortion}"),
            "",
            "the wording of the prompts (empty: the paper's wording)",
        ),
    )
}


def alike(runs: Iterable[FinishedRun], settings: Profile, study: Study) -> SelectedRuns:
    """Select the runs that have these settings, except for the study's setting, the session and the seed.

    The selected runs also share images, labels and steps; if runs differ in these, the largest group is kept.
    A run that trains nothing takes no steps and is kept.

    Args:
        settings: the settings that the runs must have.

    Returns:
        The runs in the order of the study's levels, then session and seed; the excluded runs with the
        differences.
    """
    free = (study.setting, *REPEATS)
    kept, excluded = [], []
    for run in runs:
        if changed := differences(settings.deciding(), run.settings.deciding(), free):
            excluded.append((run.folder.name, "other settings: " + "; ".join(changed)))
        elif study.level(run.settings) not in study.levels:
            excluded.append((run.folder.name, f"its {study.setting} is not a level of this study"))
        else:
            kept.append(run)

    schedules = "other steps than most runs (skipped batches or other learning rates)"
    keys: dict[str, Callable[[FinishedRun], str]] = {
        "other images or labels than most runs": lambda run: json.dumps(run.data, sort_keys=True),
        schedules: lambda run: "" if run.settings.model.freeze == "all" else run.schedule,
    }
    for reason, key in keys.items():
        counted = Counter(filter(None, map(key, kept)))
        common = {"", *(value for value, _ in counted.most_common(1))}
        excluded += [(run.folder.name, reason) for run in kept if key(run) not in common]
        kept = [run for run in kept if key(run) in common]
    kept.sort(key=lambda run: (study.levels.index(study.level(run.settings)), run.repeat))
    return SelectedRuns(kept, pd.DataFrame(excluded, columns=EXCLUDED))


def scores(runs: Iterable[FinishedRun], study: Study) -> pd.DataFrame:
    """Tabulate the score of each run: `level`, `session`, `seed`, `value` and `run`.

    `value` is the mean SRCC over datasets of the checkpoint ``quality``, which all variants have. It is NaN
    if SRCC is not defined in one of the datasets.
    """
    rows = []
    for run in runs:
        srcc = run.results.loc[run.results["checkpoint"] == "quality", "srcc"]
        rows.append((study.level(run.settings), *run.repeat, srcc.mean(skipna=False), run.folder.name))
    return pd.DataFrame(rows, columns=["level", "session", "seed", "value", "run"])


def paired(table: pd.DataFrame, study: Study) -> pd.DataFrame:
    """Compute the differences to the reference between runs of the same session and seed.

    Such runs saw the same images in the same order. Only repeats that both levels have are used.

    Args:
        table: from `scores`.

    Returns:
        A row for each level and unit: `level`, `session`, `seed`, `difference`. The units are the independent
        draws: the sessions, averaged over their seeds (`seed` is then missing), or the seeds if there is only
        one session.
    """
    values = table.pivot(index=["session", "seed"], columns="level", values="value")
    if study.reference not in values:
        return pd.DataFrame(columns=["level", "session", "seed", "difference"])
    against = values.drop(columns=study.reference).sub(values[study.reference], axis=0)
    found = against.melt(ignore_index=False, var_name="level", value_name="difference").dropna().reset_index()
    several = found.groupby("level")["session"].transform("nunique") > 1
    found["seed"] = found["seed"].astype(float).mask(several)
    by = ["level", "session", "seed"]
    return found.groupby(by, sort=False, dropna=False)["difference"].mean().reset_index()


def compare(table: pd.DataFrame, study: Study) -> pd.DataFrame:
    """Make the table of an ablation.

    Args:
        table: from `scores`.

    Returns:
        A row for each level: `level`, `runs`, `mean`, `spread` (standard deviation over repeats; NaN for
        one), the fields of `intervals.difference` for the level minus the reference over the units of
        `paired`, `units` (their number and kind), and `reason`: "" or why a number is missing.
    """
    gains = paired(table, study)
    rows = []
    for level in study.levels:
        values = table.loc[table["level"] == level, "value"]
        units = gains[gains["level"] == level]
        row = {"level": level, "runs": len(values), "mean": values.mean(), "spread": values.std()}
        reasons = []
        if values.isna().any():
            reasons.append(f"not defined in {values.isna().sum()} of {len(values)} runs")
        if len(values) < 2:
            reasons.append("one run: no spread" if len(values) else "no finished run")
        if len(values) and level != study.reference and units.empty:
            reasons.append("no run of the reference with the same session and seed")
        elif len(units):
            found = units["difference"].to_numpy(float)
            row |= difference(found, *mean_interval(found)) | {"units": _count_units(units)}
            if len(units) < FEWEST:
                reasons.append(f"{row['units']}: an interval needs {FEWEST}")
        rows.append(row | {"reason": "; ".join(reasons)})
    columns = ["level", "runs", "mean", "spread", "difference", "low", "high", "better", "verdict", "units"]
    return pd.DataFrame(rows).reindex(columns=[*columns, "reason"])


def _count_units(units: pd.DataFrame) -> str:
    """Describe the number and kind of the differences."""
    if units["session"].nunique() > 1:
        return f"{len(units)} sessions"
    return f"{len(units)} seed{'s' * (len(units) > 1)} of session {units['session'].iloc[0]}"


def comparable(runs: Sequence[FinishedRun], study: Study) -> bool:
    """Return whether at least two levels have a run of the same session and seed."""
    levels_of = Counter(repeat for repeat, _ in {(r.repeat, study.level(r.settings)) for r in runs})
    return max(levels_of.values(), default=0) >= 2


def brief(settings: Profile, epochs: int, steps: int) -> Profile:
    """Limit the epochs and the steps per epoch of a profile, and shorten its warm-up accordingly."""
    epochs, steps = min(epochs, settings.steps.epochs), min(steps, settings.steps.steps)
    warmup = min(settings.steps.warmup_steps, epochs * steps // 5)
    return settings.override(epochs=epochs, steps=steps, warmup_steps=warmup, validate_every=1)


class AblationRuns(NamedTuple):
    """The runs of an ablation.

    Attributes:
        runs: runs that differ only in the study's setting, session and seed.
        excluded: the other runs in the folder: columns `run`, `reason`.
        settings: the settings that the runs share.
        trained: whether `find_or_train` trained them, with few steps.
    """

    runs: list[FinishedRun]
    excluded: pd.DataFrame
    settings: Profile
    trained: bool

    def description(self) -> str:
        """Describe where the runs come from."""
        length = f"{self.settings.steps.epochs} epochs of {self.settings.steps.steps} steps"
        full = (
            "`make sweep` trains the task sets; `liqe sweep -s SETTING VALUE` trains levels of another study."
        )
        if not self.runs:
            return f"No two finished runs of this profile can be compared. {full}"
        if self.trained:
            return (
                f"Each level was trained once, for {length}: this shows how the table is made, but "
                f"says nothing about the method. For full runs, {full}"
            )
        repeats = sorted({run.repeat for run in self.runs})
        return f"{len(self.runs)} finished runs of {length}; (session, seed): {repeats}."


def find_or_train(
    study: Study,
    settings: Profile,
    short: Profile | None,
    root: str | Path,
    sets: Sequence[LabelledImages] | None = None,
    progress: bool = True,
) -> AblationRuns:
    """Find the finished runs of a sweep; if no two levels can be compared, train each level briefly.

    Args:
        settings: the settings of the runs to find.
        short: the settings of the runs to train, with session and seed; see `brief`. None: train nothing.
        root: run folders are in ``root/train``.
        sets: the profile's datasets; None: load them.
    """

    def find(wanted: Profile, trained: bool) -> AblationRuns:
        runs, unread = read_runs(root)
        chosen, excluded = alike(runs, wanted, study)
        return AblationRuns(chosen, pd.concat([unread, excluded], ignore_index=True), wanted, trained)

    found = find(settings, trained=False)
    if comparable(found.runs, study):
        return found
    if short is None:
        return found._replace(runs=[])
    levels = [short.override(**{study.setting: level}) for level in study.levels]
    fit_all(levels, sets_for(short, progress) if sets is None else sets, root, progress=progress)
    return find(short, trained=True)


def largest_comparable(runs: Sequence[FinishedRun], study: Study) -> list[FinishedRun]:
    """Select the largest group of runs that differ only in the study's setting, session and seed.

    The group with the most levels is chosen, then with the most runs, then with the most steps.

    Raises:
        ValueError: no two runs can be compared.
    """
    groups = [alike(runs, run.settings, study).runs for run in runs]
    groups = [group for group in groups if comparable(group, study)]
    if not groups:
        raise ValueError(f"no two runs of one session and seed differ only in {study.setting}")

    def size(group: list[FinishedRun]) -> tuple:
        return len({study.level(run.settings) for run in group}), len(group), group[0].steps

    return max(groups, key=size)


class AblationTables(NamedTuple):
    """The tables of an ablation, as `figures.ablations.ablation` takes them.

    Attributes:
        table: from `compare`; the column ``paper`` has the paper's numbers if they are comparable.
        runs: from `scores`. pairs: from `paired`.
    """

    table: pd.DataFrame
    runs: pd.DataFrame
    pairs: pd.DataFrame


def summarise(runs: Sequence[FinishedRun], study: Study, paper: bool) -> AblationTables:
    """Make the tables of an ablation from comparable runs.

    Args:
        paper: the runs follow the paper's protocol, so the table includes the paper's numbers.
    """
    points = scores(runs, study)
    table = compare(points, study)
    if paper and study.setting == "variant":
        known = paper_ablation(load_published(), study.levels)
        table = table.merge(known.rename(columns={"reason": "paper_reason"}), on="level")
    return AblationTables(table, points, paired(points, study))


def loss_weights(runs: Iterable[FinishedRun], study: Study) -> pd.DataFrame:
    """Tabulate the loss weights over the epochs: ``level``, ``run``, ``epoch`` and ``<task>_weight``."""
    tables = [run.epochs().assign(level=study.level(run.settings), run=run.folder.name) for run in runs]
    epochs = pd.concat(tables, ignore_index=True)
    return epochs[["level", "run", "epoch", *(column for column in epochs if column.endswith("_weight"))]]
