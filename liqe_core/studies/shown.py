"""What the notebooks' figures show, from what finished runs and kept tables say; trains nothing.

What one figure alone shows, and no other study computes, has its function here, so that a notebook and
``liqe figure`` show the same.
"""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from liqe_core import LIQE
from liqe_core.data import mini
from liqe_core.data.labelled import LabelledPictures
from liqe_core.data.labels import load_labels, readable
from liqe_core.data.manifests import TRAINING_SETS, load_manifest
from liqe_core.evaluation.measuring import predict
from liqe_core.prediction import expected_quality, marginal
from liqe_core.studies import gmad, open_benchmark, paper_check, paper_tables
from liqe_core.studies.ablations import REPEATS, Study, alike, comparable, compare, paired, scores
from liqe_core.studies.finished import FinishedRun
from liqe_core.studies.planted import WARPS, plant
from liqe_core.studies.published import load_published
from liqe_core.studies.realign import Realignment, judged, realign
from liqe_core.studies.unseen import what_is_missing
from liqe_core.training.prepare import AS_SHOWN, sets_for
from liqe_core.training.profiles import HOW, Profile


def settings_of(run: FinishedRun) -> Profile:
    """The settings that a run was made with.

    Raises:
        ValueError: another version of the package made it, with settings that this one does not have.
    """
    try:
        return Profile(**run.settings)
    except TypeError as error:
        raise ValueError(f"{run.folder}: its settings are of another version ({error})") from None


def repeats(runs: Iterable[FinishedRun]) -> list[FinishedRun]:
    """The largest group of runs that differ in session and seed alone; of equally large ones the one with
    more tasks, then with more steps. In order of session and seed."""
    groups: dict[str, list[FinishedRun]] = {}
    for run in runs:
        rest = {k: v for k, v in run.settings.items() if k not in (*REPEATS, *HOW)}
        groups.setdefault(json.dumps(rest, sort_keys=True), []).append(run)

    def size(group: list[FinishedRun]) -> tuple[int, int, int]:
        return len(group), group[0].settings["variant"].count("+"), group[0].steps

    largest = sorted(groups.values(), key=size)[-1:]
    return sorted(itertools.chain(*largest), key=lambda run: run.repeat)


def curves(runs: Iterable[FinishedRun]) -> pd.DataFrame:
    """``epochs.csv`` of every run, with its session as ``run``."""
    return pd.concat([run.epochs().assign(run=run.repeat[0]) for run in runs], ignore_index=True)


def results(runs: Iterable[FinishedRun]) -> pd.DataFrame:
    """What every run reached on its test parts."""
    return pd.concat([run.results for run in runs], ignore_index=True)


class Ablated(NamedTuple):
    """An ablation, as `figures.ablations.ablation` takes it.

    Attributes:
        runs: they differ in the setting, session and seed alone. table: of `compare`, with the paper's
            numbers where `values` has any. points: of `scores`. pairs: of `paired`. values: the paper's.
    """

    runs: list[FinishedRun]
    table: pd.DataFrame
    points: pd.DataFrame
    pairs: pd.DataFrame
    values: Mapping[object, float]


def ablation(runs: Sequence[FinishedRun], study: Study) -> Ablated:
    """The runs that can be compared in one setting, and what they say: of several recipes the one with most
    levels, then with most runs and most steps.

    Raises:
        ValueError: no two of the runs differ in that setting alone.
    """
    groups = [alike(runs, settings_of(run), study).runs for run in runs]
    groups = [group for group in groups if comparable(group, study)]
    if not groups:
        raise ValueError(f"no two runs of one session and seed that differ in {study.setting} alone")

    def size(group: list[FinishedRun]) -> tuple:
        return len({run.settings[study.setting] for run in group}), len(group), group[0].steps

    chosen = max(groups, key=size)
    return ablated(chosen, study, chosen[0].settings["name"].startswith("paper"))


def ablated(runs: list[FinishedRun], study: Study, paper: bool) -> Ablated:
    """What comparable runs say; with the paper's numbers beside, where they belong there."""
    points = scores(runs, study)
    table, values = compare(points, study), {}
    if paper and study.setting == "variant":
        known = paper_tables.paper_ablation(load_published(), study.levels)
        table = table.merge(known.rename(columns={"reason": "paper_reason"}), on="level")
        values = dict(zip(table["level"], table["paper"], strict=True))
    return Ablated(runs, table, points, paired(points, study), values)


def loss_weights(runs: Iterable[FinishedRun], study: Study) -> pd.DataFrame:
    """The weight of each loss over the epochs: ``level``, ``run``, ``epoch`` and ``<task>_weight``."""
    each = [run.epochs().assign(level=run.settings[study.setting], run=run.folder.name) for run in runs]
    epochs = pd.concat(each, ignore_index=True)
    return epochs[["level", "run", "epoch", *(c for c in epochs if c.endswith("_weight"))]]


def best(run: FinishedRun) -> LIQE:
    """The kept model of a run: best by the average of its measures, or by quality where there is no other."""
    kept = [of for of in ("average", "quality") if run.checkpoint(of).exists()]
    if not kept:
        raise ValueError(f"{run.folder}: its weights (best_*.safetensors) are gone")
    return LIQE.from_checkpoint(run.checkpoint(kept[0]))


class Answers(NamedTuple):
    """What a run's model says of its session's test parts.

    Attributes:
        model: the kept one. parts: for each data set, which of its rows, and their (N, Q, S, D) joint.
    """

    model: LIQE
    parts: list[tuple[LabelledPictures, np.ndarray, torch.Tensor]]

    def table(self) -> pd.DataFrame:
        """The label tables of these pictures, one below the other, with ``quality`` in 1..5."""
        tables = [
            of.table.iloc[rows].assign(quality=expected_quality(joint).numpy())
            for of, rows, joint in self.parts
        ]
        return pd.concat(tables, ignore_index=True)

    def confusion(self, axis: str) -> pd.DataFrame:
        """`paper_tables.confusion_counts` over all data sets, without the rows of labels that none has.

        Args:
            axis: ``scene`` or ``distortion``, which the model has to have learned.
        """
        column = {"scene": "scenes", "distortion": "distortion_group"}[axis]
        names = self.model.grid.names(axis)
        each = [
            paper_tables.confusion_counts(of.table[column].iloc[rows], marginal(joint, axis).numpy(), names)
            for of, rows, joint in self.parts
        ]
        counts = functools.reduce(pd.DataFrame.add, each)
        return counts.loc[counts.sum(axis=1) > 0]


def answers(run: FinishedRun) -> Answers:
    """Ask the kept model of a run about its session's test parts.

    Raises:
        ValueError: its weights are gone, or its settings are of another version.
    """
    model, sets = best(run), sets_for(settings_of(run), progress=False)
    parts = [(of, of.part(run.repeat[0], "test")) for of in sets]
    return Answers(model, [(of, rows, predict(model, of, rows)) for of, rows in parts])


class Beside(NamedTuple):
    """A table of the paper with ours below.

    Attributes:
        text, distance: as `figures.paper_tables.shaded_table` takes them.
        told: what the rows that were left out have, as a sentence; see `paper_tables.mostly_known`.
        compared: every published number of LIQE with ours.
    """

    text: pd.DataFrame
    distance: pd.DataFrame
    told: str
    compared: pd.DataFrame


def within_set(runs: Sequence[FinishedRun], checks: Sequence[paper_check.Check]) -> Beside:
    """The paper's table of its six sets, with the rows of checked weights and of our runs below.

    Args:
        runs: of the profile `paper`; none: there is no run to compare.
    """

    def why_not(name: str) -> str:
        if runs:
            return "no metric: the runs did not measure it"
        return (
            f"no run: profile paper has no finished run; {what_is_missing(name) or 'its pictures are here'}"
        )

    published = load_published()
    within = published[published["protocol"] == paper_check.WITHIN]
    compared, averaged = (
        paper_tables.beside(within, paper_tables.ours_within(runs, kept), why_not)
        for kept in ("quality", "average")
    )
    checked = paper_check.rows(checks, within, paper_check.WITHIN)
    sessions = len({run.repeat[0] for run in runs})
    rows = {**checked, f"ours ({sessions} sessions)": compared, "ours, best by average": averaged}
    known = within[paper_tables.widely_known(within)]
    table = paper_tables.method_table(known, TRAINING_SETS, ["SRCC", "PLCC"])
    table, told = paper_tables.mostly_known(table)
    others = {name: row["ours"].to_numpy() for name, row in checked.items()}
    compared = compared.assign(best_by_average=averaged["ours"], **others)
    return Beside(*paper_tables.with_ours(table, rows), told, compared)


def third_hand() -> tuple[pd.DataFrame, pd.DataFrame]:
    """The methods that `within_set` leaves out, for having a source for one set alone: text, and distances
    that are all NaN."""
    published = load_published()
    within = published[published["protocol"] == paper_check.WITHIN]
    rest = within[~paper_tables.widely_known(within)]
    table = paper_tables.method_table(rest, list(dict.fromkeys(rest["dataset"])), ["SRCC", "PLCC"])
    return paper_tables.with_ours(table, {})


def unseen(protocol: str, beside: pd.DataFrame, checks: Sequence[paper_check.Check]) -> Beside:
    """A table of sets that were never trained on, with the rows of checked weights and ours below.

    Args:
        protocol: ``unseen``, or ``aigc`` for generated pictures.
        beside: ours beside the published numbers, as `10_paper_tables` keeps it in ``unseen.csv``. A set
            without a published number has a column where ours was measured.
    """
    published = load_published()
    of = published[published["protocol"] == protocol]
    names = list(dict.fromkeys(of["dataset"]))
    if protocol == paper_check.UNSEEN:
        names += list(beside.loc[beside["published"].isna() & beside["ours"].notna(), "dataset"])
    table, told = paper_tables.mostly_known(paper_tables.method_table(of, names, ["SRCC"]))
    rows = paper_check.rows(checks, of, paper_check.UNSEEN) | {"ours": beside}
    return Beside(*paper_tables.with_ours(table, rows), told, beside)


def labels_here() -> pd.DataFrame:
    """The labels of every data set that can be read here; those of `mini` where there is no other."""
    names = readable()
    return load_labels(names) if names else mini.build(progress=False)[1]


def planted_check(noise: float = 0.15, seed: int = 1, count: int = 2000) -> tuple[Realignment, pd.DataFrame]:
    """Realignment where the answer is known: qualities seen through the planted scales.

    Args:
        noise, seed: see `plant`. count: of pictures, of all planted sets together.

    Returns:
        The realignment, and a row a scale: what was planted, the error before and after, in points of 1..5,
        and how many pictures were held.
    """
    known = plant(pd.Series(range(count)) / count * 4 + 1, noise=noise, seed=seed)
    known["prediction"] = known["quality"] + known.pop("jitter")
    check = realign(known, ranges={name: warp.range for name, warp in WARPS.items()})
    other = judged(check.scores)
    error = other[["naive", "aligned"]].sub(known.loc[other.index, "quality"], axis=0) ** 2
    error = error.groupby(other["dataset"]).mean()
    columns = {
        "what we planted": {name: warp.words for name, warp in WARPS.items()},
        "error before": error["naive"] ** 0.5,
        "error after": error["aligned"] ** 0.5,
        "held": check.curves["held"],
    }
    return check, pd.DataFrame(columns).reindex(WARPS)


def two_scales(kept: pd.DataFrame, names: Sequence[str] = ("biq2021", "hevc as shown")) -> Realignment:
    """Real scales of human scores on one: what a model said of data sets that people scored.

    Args:
        kept: ``dataset``, ``mos``, ``quality`` (the prediction), such as the open benchmark's
            ``liqe-tiny.csv``. names: which of its data sets.
    """
    table = kept[kept["dataset"].isin(names)].rename(columns={"quality": "prediction"})
    scored = {name: load_manifest(name.removesuffix(AS_SHOWN)).score for name in table["dataset"].unique()}
    return realign(table, ranges={name: (of.low, of.high) for name, of in scored.items() if of})


def people_judge(people: pd.Series, pairs: pd.DataFrame) -> tuple[gmad.Competition, pd.DataFrame]:
    """What people make of a competition: who attacks and who resists, and how often each was right.

    Args:
        people: scores by image. pairs: of `gmad.compete`.
    """
    preference = gmad.preference(pairs, people)
    judged_pairs = gmad.who_was_right(pairs, preference)
    return gmad.attack_resistance(pairs, preference), gmad.how_often_right(judged_pairs)


def arms_compete(arms: pd.DataFrame) -> tuple[pd.Series, pd.DataFrame]:
    """The arms of the open benchmark against one another on BIQ2021, whose pictures people scored.

    Args:
        arms: the kept table ``arms.csv``.

    Returns:
        What `people_judge` takes: people's scores by image, and the pairs.
    """
    table = arms[(arms["dataset"] == "biq2021") & ~arms["near_duplicate"]].set_index("image")
    rivals = [arm.name for arm in open_benchmark.ARMS if arm.name in table]
    return table["mos"], gmad.compete(table[rivals], rivals, levels=6)
