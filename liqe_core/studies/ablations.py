"""Ablations: finished runs that differ in one setting alone, found among run folders and compared.

An ablation says something about a setting only where nothing else changed. What changed is read from the
folders themselves: each run's settings and data from its ``settings.json``, the steps it took from its
``steps.csv``. Runs that differ in more are left out, and listed with what differs.
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
        levels: its values, in the order of the table.
        reference: the level that the others are compared with.
        meaning: one line for the reader.
    """

    setting: str
    levels: tuple
    reference: object
    meaning: str

    def level(self, settings: Profile) -> object:
        """The value that some settings have."""
        return settings.flat()[self.setting]


STUDIES = {
    study.setting: study
    for study in (
        Study("variant", VARIANTS, VARIANTS[0], "which tasks are learned together"),
        Study(
            "control",
            ("", "shuffled labels", "quality alone", "separate heads"),
            "",
            "what is at work (empty: all three tasks, as LIQE): with shuffled labels nothing that scenes and "
            "distortions teach, with quality alone only the many prompts, with separate heads no words",
        ),
        Study("weighting", ("equal", "dwa"), "equal", "how the losses are weighted against one another"),
        Study("freeze", ("", "text", "image", "all"), "", "which tower does not train (all: neither)"),
        Study("crops", (1, 3, 5), 3, "how many crops of an image a training step sees"),
        Study(
            "template",
            ("", "a {quality} photo of a {scene} with {distortion}"),
            "",
            "how the prompts are worded (empty: the paper's wording)",
        ),
    )
}


def alike(runs: Iterable[FinishedRun], settings: Profile, study: Study) -> SelectedRuns:
    """Of some runs, those with these settings, whatever the study's one, the session and the seed are.

    They also saw the same images and labels and took the same steps; where runs disagree on that, the
    larger group is kept. A run that trains nothing took no steps, and is kept.

    Args:
        settings: what the runs must have been made with.

    Returns:
        The runs in the order of the study's levels, then session and seed; the excluded with what differs.
    """
    free = (study.setting, *REPEATS)
    kept, excluded = [], []
    for run in runs:
        if changed := differences(settings.deciding(), run.settings.deciding(), free):
            excluded.append((run.folder.name, "other settings: " + "; ".join(changed)))
        elif study.level(run.settings) not in study.levels:
            excluded.append((run.folder.name, f"{study.setting} is no level of this study"))
        else:
            kept.append(run)

    schedules = "other steps than most runs here (batches left out, or other rates)"
    keys: dict[str, Callable[[FinishedRun], str]] = {
        "other images or labels than most runs here": lambda run: json.dumps(run.data, sort_keys=True),
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
    """A row a run: `level`, `session`, `seed`, `value` and `run`.

    `value` is the mean SRCC over datasets of the checkpoint ``quality``, which all variants have; NaN where
    SRCC is not defined in one dataset.
    """
    rows = []
    for run in runs:
        srcc = run.results.loc[run.results["checkpoint"] == "quality", "srcc"]
        rows.append((study.level(run.settings), *run.repeat, srcc.mean(skipna=False), run.folder.name))
    return pd.DataFrame(rows, columns=["level", "session", "seed", "value", "run"])


def paired(table: pd.DataFrame, study: Study) -> pd.DataFrame:
    """The differences to the reference, each between two runs that started from the same seed and saw the
    same images in the same order: only repeats, that is pairs of session and seed, that both levels have.

    Args:
        table: from `scores`.

    Returns:
        A row a level and unit: `level`, `session`, `seed`, `difference`. The units are what was drawn
        independently: the sessions, whose seeds are averaged first (`seed` is then missing); the seeds where
        there is one session alone.
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
    """The ablation's table.

    Args:
        table: from `scores`.

    Returns:
        A row a level: `level`, `runs`, `mean`, `spread` (standard deviation over repeats; NaN for one), what
        `intervals.difference` says of the level less the reference over the units of `paired`, `units` (how
        many and of what), and `reason`: "" or why a number is missing.
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
    """How many differences there are, and of what."""
    if units["session"].nunique() > 1:
        return f"{len(units)} sessions"
    return f"{len(units)} seed{'s' * (len(units) > 1)} of session {units['session'].iloc[0]}"


def comparable(runs: Sequence[FinishedRun], study: Study) -> bool:
    """Whether at least two levels have a run of one session and seed."""
    levels_of = Counter(repeat for repeat, _ in {(r.repeat, study.level(r.settings)) for r in runs})
    return max(levels_of.values(), default=0) >= 2


def brief(settings: Profile, epochs: int, steps: int) -> Profile:
    """The same settings with at most so many epochs and steps an epoch, and a shorter warm-up to match."""
    epochs, steps = min(epochs, settings.steps.epochs), min(steps, settings.steps.steps)
    warmup = min(settings.steps.warmup_steps, epochs * steps // 5)
    return settings.override(epochs=epochs, steps=steps, warmup_steps=warmup, validate_every=1)


class AblationRuns(NamedTuple):
    """The runs of an ablation.

    Attributes:
        runs: they differ in the study's setting alone, and in session and seed.
        excluded: what else is in the folder: columns `run`, `reason`.
        settings: what the runs share.
        trained: whether they were trained now, briefly.
    """

    runs: list[FinishedRun]
    excluded: pd.DataFrame
    settings: Profile
    trained: bool

    def description(self) -> str:
        """Where the runs come from, for the reader."""
        length = f"{self.settings.steps.epochs} epochs of {self.settings.steps.steps} steps"
        full = (
            "`make sweep` trains the task sets, and `liqe sweep -s SETTING VALUE` a level of another study."
        )
        if not self.runs:
            return f"No two finished runs of this profile can be compared. {full}"
        if self.trained:
            return (
                f"Each level was trained once, briefly ({length}): this shows how the table is made, and "
                f"nothing about the method. In full, {full}"
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
    """What a sweep has finished, where two levels at least can be compared; else each level, trained briefly.

    Args:
        settings: of the runs to look for.
        short: of those to train where there are none, session and seed included; see `brief`. None: train
            nothing.
        root: run folders are in ``root/train``.
        sets: the profile's datasets, where the caller has them.
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
    """The runs that differ in the setting, session and seed alone: of several recipes those with most levels,
    then with most runs, then with most steps.

    Raises:
        ValueError: there are none.
    """
    groups = [alike(runs, run.settings, study).runs for run in runs]
    groups = [group for group in groups if comparable(group, study)]
    if not groups:
        raise ValueError(f"no two runs of one session and seed that differ in {study.setting} alone")

    def size(group: list[FinishedRun]) -> tuple:
        return len({study.level(run.settings) for run in group}), len(group), group[0].steps

    return max(groups, key=size)


class AblationTables(NamedTuple):
    """An ablation, as `figures.ablations.ablation` takes it.

    Attributes:
        table: of `compare`; with the paper's numbers, where they belong beside these, in ``paper``.
        runs: of `scores`. pairs: of `paired`.
    """

    table: pd.DataFrame
    runs: pd.DataFrame
    pairs: pd.DataFrame


def summarise(runs: Sequence[FinishedRun], study: Study, paper: bool) -> AblationTables:
    """What comparable runs say.

    Args:
        paper: they follow the paper's protocol, so its numbers belong beside theirs.
    """
    points = scores(runs, study)
    table = compare(points, study)
    if paper and study.setting == "variant":
        known = paper_ablation(load_published(), study.levels)
        table = table.merge(known.rename(columns={"reason": "paper_reason"}), on="level")
    return AblationTables(table, points, paired(points, study))


def loss_weights(runs: Iterable[FinishedRun], study: Study) -> pd.DataFrame:
    """The weight of each loss over the epochs: ``level``, ``run``, ``epoch`` and ``<task>_weight``."""
    tables = [run.epochs().assign(level=study.level(run.settings), run=run.folder.name) for run in runs]
    epochs = pd.concat(tables, ignore_index=True)
    return epochs[["level", "run", "epoch", *(column for column in epochs if column.endswith("_weight"))]]
