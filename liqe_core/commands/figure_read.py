"""How each figure and table is read: from finished runs, from what notebooks left, or from kept tables.

A reader takes a source and gives the table for the CSV and what the drawing function of the notebook takes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from liqe_core import LIQE, PromptGrid
from liqe_core.commands.figure_source import LackingError, Source
from liqe_core.crops import CropGeometry
from liqe_core.data.labels import read_labels
from liqe_core.data.mini import open_photograph
from liqe_core.images import read_picture
from liqe_core.studies import half_precision, shown
from liqe_core.studies import open_benchmark as study
from liqe_core.studies.ablations import STUDIES
from liqe_core.studies.realign import curve_points
from liqe_core.training.prepare import scored_by_people
from liqe_core.training.profiles import profile


class Read(NamedTuple):
    """What was read for a figure. table: for its CSV. given: the arguments that it is drawn from."""

    table: pd.DataFrame
    given: tuple = ()


JUDGED = "biq2021 without near-duplicates"


def left(*names: str) -> Callable[[Source], Read]:
    """The tables as the notebook left them: the first is the figure's, and it is drawn from all."""

    def read(source: Source) -> Read:
        tables = [source.table(name) for name in names]
        return Read(tables[0], tuple(tables))

    return read


def computed(make: Callable[[Source], pd.DataFrame]) -> Callable[[Source], Read]:
    """A table that is all that a figure is drawn from."""

    def read(source: Source) -> Read:
        table = make(source)
        return Read(table, (table,))

    return read


# 00 and 01: a picture, and data sets


def answer(source: Source) -> Read:
    table = source.table("quickstart/answer")
    words = {axis: of.set_index("word")["probability"] for axis, of in table.groupby("axis", sort=False)}
    return Read(table, (_photo(source), words, _expected(table)))


def _expected(answer: pd.DataFrame) -> float:
    p = answer.loc[answer["axis"] == "quality", "probability"].to_numpy()
    return float((p * np.arange(1, len(p) + 1)).sum())


def _photo(source: Source) -> np.ndarray:
    path = source.path("quickstart/photo.jpg")
    if path is None:
        raise LackingError(
            f"the picture is not beside its tables, in {source.folder}/00_quickstart/photo.jpg: the notebook "
            "leaves it there when it is run without `picture`"
        )
    return np.asarray(read_picture(path))


def joint(source: Source) -> Read:
    table = source.table("quickstart/joint")
    words = [list(dict.fromkeys(table[axis])) for axis in ("quality", "scene", "distortion")]
    p = table["probability"].to_numpy().reshape([len(of) for of in words])
    return Read(table, (p, *words))


def crops(source: Source) -> Read:
    table = source.table("quickstart/crops")
    windows = table[["y", "x"]].to_numpy()
    return Read(table, (_photo(source), windows, CropGeometry().window, table["quality"].to_numpy()))


def hundred(source: Source) -> Read:
    kept = source.kept("liqe-tiny")
    of = kept[kept["true_distortion"] == "jpeg compression"]
    of = of[of["dataset"] == "open-distorted"]
    quality = _expected(source.table("quickstart/answer"))
    return Read(of[["image", "quality", "distortion"]], (of, "jpeg compression", quality))


def towers(source: Source) -> Read:
    """A built-in photograph and the paper's prompts; of these, the words of each axis are the table."""
    grid = PromptGrid()
    words = pd.DataFrame([(axis, word) for axis in grid.axes for word in grid.names(axis)])
    photo = np.asarray(open_photograph("chelsea"))
    return Read(words.set_axis(["axis", "word"], axis=1), (photo, grid.shape, grid.prompts[0]))


def same_marginals(source: Source) -> Read:
    """Two joint distributions and their titles."""
    both = source.table("concepts/same_marginals")
    titles = {"joint": "what goes with what", "product": "the product of its marginals"}
    parts = both.set_index("quality").groupby("which", sort=False)
    return Read(both, ({titles[which]: part.drop(columns="which") for which, part in parts},))


def sheet(name: str, caption: Callable[[pd.Series], str]) -> Callable[[Source], Read]:
    def read(source: Source) -> Read:
        table = source.table(f"data_preparation/{name}")
        images = [source.array(image) for image in table["image"]]
        return Read(table, (images, [caption(row) for _, row in table.iterrows()]))

    return read


def labels(make: Callable[[pd.DataFrame], pd.DataFrame]) -> Callable[[Source], Read]:
    def read(source: Source) -> Read:
        labels = shown.labels_here()
        return Read(make(labels), (labels,))

    return read


def parts(labels: pd.DataFrame) -> pd.DataFrame:
    sessions = [c for c in labels if c.startswith("session_")]
    parts = labels.melt("dataset", sessions, "session", "part")
    return parts.groupby(["dataset", "session", "part"]).size().rename("pictures").reset_index()


def groups(labels: pd.DataFrame) -> pd.DataFrame:
    groups = labels.groupby(["dataset", "distortion_group"], dropna=False).size()
    return groups.rename("pictures").reset_index()


# 02 to 04: training, ablations, the paper's tables


def agreement(source: Source) -> Read:
    run = source.repeats[0]
    of, session = next(iter(run.settings["batch_sizes"])), run.repeat[0]
    if source.path("multitask_training/agreement.csv"):
        table = source.table("multitask_training/agreement")
    else:
        table = source.answers.table().query("dataset == @of")[
            ["image", "mos", "quality", "distortion_group"]
        ]
    kind = "human score" if scored_by_people(of) else "stand-in score (mean opinion of its fault)"
    return Read(table, (table, f"{of}, session {session}, {len(table)} pictures", kind))


def confusion(axis: str) -> Callable[[Source], Read]:
    def read(source: Source) -> Read:
        name = f"paper_tables/confusion_{axis}"
        if source.path(f"{name}.csv"):
            counts = source.table(name).set_index("label")
        elif axis in source.answers.model.grid.axes:
            counts = source.answers.confusion(axis)
        else:
            raise LackingError(f"the runs in {source.folder} did not learn the {axis}")
        session = source.repeats[0].repeat[0]
        title = f"{axis}, test part of session {session}, share of each row"
        return Read(counts.reset_index(names="label"), (counts, title))

    return read


def first_confusion(source: Source) -> Read:
    table = source.table("multitask_training/confusion")
    title = "distortion of unseen photographs, share of each row"
    return Read(table, (table.set_index("distortion_group"), title))


def ablation(setting: str) -> Callable[[Source], Read]:
    def read(source: Source) -> Read:
        of, what = shown.ablation(source.runs, STUDIES[setting]), STUDIES[setting]
        return Read(of.table, (of.table, of.points, of.pairs, what.reference, of.values))

    return read


def loss_weights(source: Source) -> Read:
    what = STUDIES["variant"]
    try:
        runs = shown.ablation(source.runs, what).runs
    except ValueError:  # one recipe alone
        runs = source.repeats
    table = shown.loss_weights(runs, what)
    return Read(table, (table, what.levels))


def within_set(source: Source) -> Read:
    runs = []
    if source.folder and (source.folder / "train").is_dir():
        full = STUDIES["variant"].levels[-1]
        of = [run for run in source.runs if run.settings["variant"] == full]
        runs = shown.repeats(run for run in of if run.settings["name"].startswith("paper"))
    text, distance, *_ = shown.within_set(runs, source.checks)
    title = "within-set, median over sessions"
    return Read(text.reset_index(names="method"), (text, distance, title))


def third_hand(source: Source) -> Read:
    text, blank = shown.third_hand()
    return Read(text.reset_index(names="method"), (text, blank, "at third hand"))


def unseen(protocol: str, title: str) -> Callable[[Source], Read]:
    def read(source: Source) -> Read:
        beside = source.table("paper_tables/unseen").fillna({"reason": ""})
        text, distance, *_ = shown.unseen(protocol, beside, source.checks)
        return Read(text.reset_index(names="method"), (text, distance, f"{title}: SRCC, never trained on"))

    return read


# 05: the open benchmark


def arms(source: Source) -> Read:
    runs = source.kept("runs").query(f"split == 'public' and dataset == '{JUDGED}'")
    order = [arm.name for arm in study.ARMS if arm.name in set(runs["arm"])]
    return Read(runs, (runs, order, "srcc", f"{JUDGED}, {runs['pictures'].iloc[0]} pictures"))


def differences(title: str) -> Callable[[Source], Read]:
    def read(source: Source) -> Read:
        every = source.kept("differences")
        of = every[(every["split"] == "public") & (every["dataset"] == JUDGED)]
        of = of[of["reference"] == study.REFERENCE]
        return Read(of, (of, title))

    return read


def levels(source: Source) -> Read:
    public = source.kept("levels").query("split == 'public'")
    beside = public[public["dataset"] == JUDGED].sort_values("srcc", ascending=False)
    return Read(public, (beside, JUDGED))


def splits(source: Source) -> Read:
    runs = source.kept("runs")
    of = runs[runs["dataset"].str.startswith("biq2021") & runs["arm"].isin(study.SPLITS["neighbours"])]
    return Read(of.groupby(["split", "dataset", "arm"])["srcc"].agg(["count", "mean", "std"]).reset_index())


def tiny(name: str, title: str) -> Callable[[Source], Read]:
    def read(source: Source) -> Read:
        kept = source.kept("liqe-tiny")
        of = kept[kept["dataset"] == name][["image", "quality", "mos"]]
        return Read(of, (of, title.format(len(of))))

    return read


def tiny_distortions(source: Source) -> Read:
    kept = source.kept("liqe-tiny")
    of = kept[kept["true_distortion"].notna()]
    return Read(of[["image", "true_distortion", "distortion"]], (of,))


def tiny_scenes(source: Source) -> Read:
    kept = source.kept("liqe-tiny")
    of = kept[kept["scenes"].fillna("") != ""]
    of = of.assign(true_scene=of["scenes"].str.split(";").str[0])
    return Read(of[["image", "scenes", "scene"]], (of, "scene"))


# 06 and 07: competition, realignment


def pairs(name: str) -> Callable[[Source], Read]:
    def read(source: Source) -> Read:
        table = source.table(f"gmad/{name}").fillna({"reason": ""})
        images = pd.unique(table[["better", "worse"]].stack().dropna())
        return Read(table, (table, {image: source.picture(image) for image in images}))

    return read


def disagreement(source: Source) -> Read:
    table = source.table("gmad/disagreement")
    return Read(table, (table.set_index("pulled apart by"),))


def own_competition(source: Source) -> Read:
    source.table("gmad/own_attack_resistance")  # where it is not, no person has scored the pictures
    pairs = source.table("gmad/all_pairs").fillna({"reason": ""})
    labels = pd.concat([read_labels(name) for name in source.repeats[0].settings["batch_sizes"]])
    competition, _ = shown.people_judge(labels.set_index("image")["mos"], pairs)
    return Read(competition.ranking.reset_index(), (competition,))


def open_competition(source: Source) -> Read:
    competition, _ = shown.people_judge(*shown.arms_compete(source.kept("arms")))
    return Read(competition.ranking.reset_index(), (competition,))


def check(source: Source) -> Read:
    points = curve_points(check := shown.planted_check()[0])
    return Read(points, (check.scores, points))


def two_scales(source: Source) -> Read:
    between = shown.two_scales(source.kept("liqe-tiny"))
    return Read(between.scores, (between.scores, curve_points(between)))


def realigned(source: Source) -> Read:
    scores, points = source.table("realignment/panels"), _curves(source)
    return Read(scores, (scores, points))


def _curves(source: Source) -> pd.DataFrame:
    if source.path("realignment/overview.csv") is None:  # no set had a rising curve
        return pd.DataFrame(columns=["dataset", "prediction", "mos", "raw"])
    return source.table("realignment/overview")


def overview(source: Source) -> Read:
    points, curves = source.table("realignment/overview"), source.table("realignment/curves")
    return Read(points, (curves[curves["model"] == "all tasks"].set_index("dataset"), points))


def same_score(source: Source) -> Read:
    table, images = source.table("realignment/same_score"), source.table("realignment/scores")["image"]
    few = table.head(5)
    return Read(
        table, (few, {i: source.picture(images[i]) for i in pd.unique(few[["better", "worse"]].stack())})
    )


# 08: half precision


def what_can_move(source: Source) -> Read:
    rate, clip = _clip(source)
    counted = half_precision.counts_by_kind(clip)
    kinds, sizes = half_precision.by_kind(counted, [rate, rate / 3]), half_precision.by_size(counted)
    return Read(sizes, (sizes, kinds, rate, rate / 3))


def stuck(source: Source) -> Read:
    rate, clip = _clip(source)
    kinds = half_precision.by_kind(half_precision.counts_by_kind(clip), [rate, rate / 3])
    return Read(kinds.set_axis(["weights", "stuck", "stuck_at_a_third"], axis=1).reset_index())


def _clip(source: Source) -> tuple[float, Any]:
    """A learning rate and a model: the run's, or the paper's and its architecture with random weights."""
    if source.folder:
        run = source.repeats[0]
        return run.settings["learning_rate"], shown.best(run).clip
    torch.manual_seed(1)
    paper = profile("paper")
    return paper.learning_rate, LIQE.from_clip(paper.architecture, None).clip
