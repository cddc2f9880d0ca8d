"""The open benchmark: does it help quality to learn scenes and distortions too? On data that anyone may have.

Every arm of the study is trained on the same batches from the same seeds; what differs is the prompts, the
labels or the losses. Test pictures are predicted once, when all choices are made, and what was predicted is
kept as small tables, so that every figure can be drawn again without the pictures.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from liqe_core import agreement
from liqe_core.checkpoints import PACKAGED, read_recipe
from liqe_core.data.duplicates import near_duplicates
from liqe_core.data.labelled import LabelledPictures
from liqe_core.data.manifests import load_manifest, manifest_dir
from liqe_core.data.splits import SESSION_COLUMNS, by_neighbours
from liqe_core.evaluation.measuring import predict
from liqe_core.files import write_csv
from liqe_core.model import LIQE
from liqe_core.prediction import expected_quality, marginal
from liqe_core.prompts import VARIANTS
from liqe_core.studies import baselines
from liqe_core.studies.intervals import bootstrap, difference, interval, srcc_interval
from liqe_core.training.embeddings import kept_windows
from liqe_core.training.loop import fit
from liqe_core.training.prepare import AS_SHOWN, labelled, sets_for
from liqe_core.training.profiles import Profile, profile
from liqe_core.training.runs import is_finished
from liqe_core.training.step import build_model

#: Where the tables are kept that this study left.
KEPT = manifest_dir() / "open"

#: Sets that no arm trains on, tested whole.
UNSEEN = ("hevc", "tid2013-part")


@dataclasses.dataclass(frozen=True)
class Arm:
    """One way to train.

    Attributes:
        name: in the tables. meaning: one line for the reader. changes: settings of the profile.
    """

    name: str
    meaning: str
    changes: Mapping[str, Any]


#: Of an arm whose image tower trains too: what profile ``open`` has for that, and as many steps as two cores
#: take in some minutes.
_AS_OPEN = ("keep_windows", "precision", "unlocked_groups", "batch_sizes", "learning_rate", "validate_every")
TUNED: Mapping[str, Any] = {name: getattr(profile("open"), name) for name in _AS_OPEN} | {
    "steps": 30,
    "measured": 200,
}

ARMS = tuple(
    Arm(*each)
    for each in (
        ("Q", "quality alone, its own five prompts", {"variant": VARIANTS[0]}),
        ("Q+S", "quality and scene", {"variant": VARIANTS[1]}),
        ("Q+D", "quality and distortion", {"variant": VARIANTS[2]}),
        ("Q+S+D", "all three, as LIQE", {}),
        ("shuffled", "all three, scenes and distortions of other pictures", {"control": "shuffled labels"}),
        ("ensemble", "all 495 prompts, quality loss alone", {"control": "quality alone"}),
        ("heads", "all three, a linear head each in place of prompts", {"control": "separate heads"}),
        ("BIQ2021 Q", "quality of BIQ2021 alone", {"variant": VARIANTS[0], "batch_sizes": {"biq2021": 64}}),
        ("BIQ2021 Q+S+D", "all three, scores of BIQ2021 alone", {"stand_in": False}),
        (
            "BIQ2021 regression",
            "scores of BIQ2021 alone, by squared error, a linear head in place of prompts",
            {
                "variant": VARIANTS[0],
                "batch_sizes": {"biq2021": 64},
                "control": "separate heads",
                "quality_loss": "squared error",
            },
        ),
        ("tuned Q", "quality alone, the image tower trains too", {"variant": VARIANTS[0], **TUNED}),
        ("tuned Q+S+D", "all three, the image tower trains too", TUNED),
    )
)
#: The arm that the others are compared with.
REFERENCE = "Q"


def settings_of(arm: Arm, seed: int, of: str = "open-frozen") -> Profile:
    """The settings of an arm: those of the profile, its own changes, and the seed."""
    return profile(of, seed=seed, **arm.changes)


#: How BIQ2021 is split, and the arms that are trained on it so: as its authors did, or with pictures of
#: neighbouring numbers together (`splits.by_neighbours`).
SPLITS = {
    "public": tuple(arm.name for arm in ARMS),
    "neighbours": ("Q", "Q+S+D"),
}


def train_and_predict(
    arms: Iterable[Arm],
    seeds: Iterable[int],
    root: str | Path,
    of: str = "open-frozen",
    split: str = "public",
    progress: bool = True,
) -> None:
    """Train what is not finished and predict the test pictures of each run, once.

    A run's predictions lie in its folder as ``predictions.csv``; a run that has them is left alone, so that
    a study that was stopped goes on.

    Args:
        root: run folders are in ``root/<profile>/<split>/<arm>-<seed>``.
        of: the profile.
        split: one of `SPLITS`; its arms alone are trained.
    """
    base = profile(of)
    sets = {s.name: s for s in split_sets(base, split, progress)}
    tests = test_sets(base, sets.values(), progress)
    for seed in seeds:
        for arm in arms:
            settings, folder = settings_of(arm, seed, of), Path(root) / of / split / f"{arm.name}-{seed}"
            if arm.name not in SPLITS[split] or (folder / "predictions.csv").is_file():
                continue
            if not is_finished(folder):
                chosen = [sets[name] for name in settings.batch_sizes]
                if not settings.stand_in or settings.measured:
                    chosen = split_sets(settings, split, progress)
                fit(settings, chosen, folder, progress)
            model = LIQE.from_checkpoint(folder / "best_quality.safetensors")
            looked = (
                [kept_windows(s, model, None, progress, settings.precision) for s in tests]
                if settings.keep_windows
                else tests
            )
            table = predictions(model, looked, settings.session)
            write_csv(folder / "predictions.csv", table.assign(arm=arm.name, seed=seed))


def split_sets(settings: Profile, split: str = "public", progress: bool = True) -> list[LabelledPictures]:
    """The sets of a profile, with BIQ2021 split as `SPLITS` names it; pictures made of one of its photographs
    are trained on only where that photograph is."""
    sets = sets_for(settings, progress)
    if split == "public":
        return sets
    tables, sessions = {of.name: of.table for of in sets}, list(SESSION_COLUMNS)
    tables["biq2021"] = by_neighbours(tables["biq2021"])
    parts = tables["biq2021"].set_index("image")[sessions]
    for name in tables.keys() - {"biq2021"}:
        table = tables[name] = tables[name].copy()
        made = table["reference"].isin(parts.index)
        there = parts.reindex(table.loc[made, "reference"])
        table.loc[made, sessions] = there.where(there == "train", None).to_numpy()
    return [dataclasses.replace(of, table=tables[of.name]) for of in sets]


def test_sets(
    settings: Profile, trained: Iterable[LabelledPictures], progress: bool = True
) -> list[LabelledPictures]:
    """What is tested: of the sets that are trained on the test parts, and the unseen sets that are here; one
    that people saw at another size than it has, at both."""
    here = [manifest for manifest in map(load_manifest, UNSEEN) if manifest.locate() is not None]
    unseen = [
        labelled(manifest.name, settings, progress, missing="skip", as_shown=as_shown)
        for manifest in here
        for as_shown in ((False, True) if manifest.shown else (False,))
    ]
    return [*trained, *unseen]


def test_rows(of: LabelledPictures, session: int = 1) -> np.ndarray:
    """Which pictures of a set are tested: its test part, or all of an unseen set."""
    return np.arange(len(of)) if of.name.removesuffix(AS_SHOWN) in UNSEEN else of.part(session, "test")


def predictions(model: LIQE, sets: Iterable[LabelledPictures], session: int = 1) -> pd.DataFrame:
    """What a model says of every test picture.

    Returns:
        A row a picture: ``dataset, image, quality`` and, where the model's grid has the axis, the likeliest
        ``distortion`` and the likeliest ``scene``, or as many as the picture has labels, with ``;`` between.
    """
    tables = []
    for of in sets:
        rows = test_rows(of, session)
        joint = predict(model, of, rows)
        table = pd.DataFrame({"dataset": of.name, "image": of.table["image"].iloc[rows].to_numpy()})
        table["quality"] = expected_quality(joint).numpy().astype(float).round(6)
        for axis in model.grid.axes[1:]:
            words = np.array(model.grid.names(axis))
            likeliest = words[marginal(joint, axis).argsort(dim=1, descending=True, stable=True).numpy()]
            labelled = of.table["scenes"].iloc[rows].str.len() if axis == "scene" else [1] * len(rows)
            pairs = zip(likeliest, labelled, strict=True)
            table[axis] = [";".join(named[: max(1, count)]) for named, count in pairs]
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def labels(sets: Iterable[LabelledPictures], session: int = 1) -> pd.DataFrame:
    """The labels of the test pictures, in the order of `predictions`.

    Returns:
        ``dataset, image, mos, true_distortion, scenes`` (words with ``;`` between), ``reference``, and
        ``near_duplicate``: the training part has the same photograph (see `data.duplicates`).
    """
    tables = []
    for of in sets:
        rows = test_rows(of, session)
        table = of.table.iloc[rows]
        chosen = table[["dataset", "image", "mos"]].assign(
            true_distortion=table["distortion_group"],
            scenes=table["scenes"].str.join(";"),
            reference=table["reference"],
            near_duplicate=False,
        )
        if of.name == "biq2021":
            pairs = near_duplicates(of.table, load_manifest(of.name).folder(), session=session)
            chosen["near_duplicate"] = chosen["image"].isin(pairs.loc[pairs["part"] == "test", "image"])
        tables.append(chosen)
    return pd.concat(tables, ignore_index=True)


def measures(table: pd.DataFrame) -> pd.DataFrame:
    """What a model reaches on each test set.

    Args:
        table: predictions joined with `labels`, of one model.

    Returns:
        A row for each of `parts`: ``dataset, pictures, srcc, plcc`` and, where the model has the axis,
        ``scene_accuracy`` (as `agreement.scene_accuracy` counts), ``distortion_accuracy``, and beside each,
        as ``scene_commonest`` and ``distortion_commonest``, what always naming the commonest word reaches on
        the same pictures; NaN where it is not defined.
    """
    rows = []
    for name, of in parts(table):
        row = {"dataset": name, "pictures": len(of)}
        has = {"scene_accuracy": "scene" in of, "distortion_accuracy": "distortion" in of}
        row |= {measure: value(of) for measure, value in MEASURES.items() if has.get(measure, True)}
        if "scene" in of:
            words = of["scenes"].mask(of["scenes"] == "")
            row["scene_commonest"] = baselines.commonest(words.astype(object).str.split(";"))
        if "distortion" in of:
            row["distortion_commonest"] = baselines.commonest(of["true_distortion"])
        rows.append(row)
    return pd.DataFrame(rows)


def parts(table: pd.DataFrame) -> Iterable[tuple[str, pd.DataFrame]]:
    """The test sets of a table by name; BIQ2021 also without near-duplicates, TID2013's part by reference."""
    for name, of in table.groupby("dataset", sort=False):
        yield str(name), of
        if of["near_duplicate"].any():
            yield f"{name} without near-duplicates", of[~of["near_duplicate"]]
        if name == "tid2013-part":
            yield from ((f"{name} {reference}", few) for reference, few in of.groupby("reference"))


#: What the card of a model says of each test set: dataset, in words, measure.
ON_THE_CARD = (
    ("biq2021", "BIQ2021, public test part", "srcc"),
    ("biq2021 without near-duplicates", "the same, without pictures whose twin was trained on", "srcc"),
    ("open-distorted", "photographs distorted in 25 ways, none of them trained on", "srcc"),
    ("open-distorted", "the same", "distortion_accuracy"),
    ("open-scenes", "scenes, pictures not trained on", "scene_accuracy"),
    ("hevc", "HEVC, nothing like it trained on, as decoded", "srcc"),
    ("hevc as shown", "the same, all enlarged to one size", "srcc"),
)
#: How the card names the measures.
IN_WORDS = {
    "srcc": "SRCC with the scores",
    "distortion_accuracy": "distortion named, of eleven",
    "scene_accuracy": "scenes named, of nine",
}


def card_table(table: pd.DataFrame) -> pd.DataFrame:
    """What a model reaches, for its card.

    Args:
        table: predictions joined with `labels`, of one model.

    Returns:
        A row for each of `ON_THE_CARD` that the table has: ``pictures`` (in words), ``count``, ``measure``,
        ``reached``, ``low`` and ``high`` (95 % bootstrap interval over photographs: pictures made of one are
        drawn together), ``commonest``: what naming the commonest words, or a constant score, reaches.
    """
    of, reached, rows = dict(parts(table)), measures(table).set_index("dataset"), []
    for name, words, measure in ON_THE_CARD:
        if name not in of:
            continue
        row = {"pictures": words, "count": len(of[name]), "measure": IN_WORDS[measure]}
        row["reached"] = reached.loc[name, measure]
        row["low"], row["high"] = _over_photographs(of[name], MEASURES[measure])
        commonest = reached.loc[name].get(measure.replace("accuracy", "commonest"))
        rows.append(row | {"commonest": 0.0 if measure == "srcc" else commonest})
    return pd.DataFrame(rows)


def _over_photographs(table: pd.DataFrame, measure: Callable[[pd.DataFrame], float]) -> tuple[float, float]:
    photographs = list(table.groupby(table["reference"].fillna(table["image"])).indices.values())

    def of(drawn: np.ndarray) -> float:
        return measure(table.iloc[np.concatenate([photographs[i] for i in drawn])])

    def each(drawn: np.ndarray, axis: int = -1) -> np.ndarray:
        return np.apply_along_axis(of, axis, drawn)

    return bootstrap(len(photographs), each)


def scenes_found(table: pd.DataFrame) -> pd.DataFrame:
    """Of each picture that has scenes how many ``labels`` it has, and how many of them were ``found``."""
    labelled = table[table["scenes"].fillna("") != ""]
    true, said = (labelled[column].str.split(";") for column in ("scenes", "scene"))
    hits = [len(set(t) & set(s)) for t, s in zip(true, said, strict=True)]
    return pd.DataFrame({"labels": true.str.len(), "found": hits}, index=labelled.index)


def right_distortion(table: pd.DataFrame) -> pd.Series:
    """Whether the distortion was named rightly; NaN where the picture has none."""
    return (
        (table["distortion"] == table["true_distortion"])
        .astype(float)
        .where(table["true_distortion"].notna())
    )


def _of_scored(measure: Callable[[np.ndarray, np.ndarray], float], table: pd.DataFrame) -> float:
    scored = table[table["mos"].notna()]
    return measure(scored["quality"].to_numpy(), scored["mos"].to_numpy())


def _scene_accuracy(table: pd.DataFrame) -> float:
    found = scenes_found(table)
    return found["found"].sum() / found["labels"].sum() if len(found) else np.nan


#: From predictions joined with `labels` to a number.
MEASURES: dict[str, Callable[[pd.DataFrame], float]] = {
    "srcc": partial(_of_scored, agreement.srcc),
    "plcc": partial(_of_scored, agreement.plcc),
    "scene_accuracy": _scene_accuracy,
    "distortion_accuracy": lambda table: right_distortion(table).mean(),
}


def with_labels(predicted: pd.DataFrame, true: pd.DataFrame) -> pd.DataFrame:
    """Predictions beside the labels of the same pictures."""
    return predicted.merge(true, on=["dataset", "image"], validate="m:1")


def gathered(root: str | Path, of: str = "open-frozen", split: str = "public") -> pd.DataFrame:
    """The predictions of every run of the study that has them: `predictions` with ``arm`` and ``seed``."""
    files = sorted((Path(root) / of / split).glob("*/predictions.csv"))
    return pd.concat([pd.read_csv(file) for file in files], ignore_index=True)


def run_table(predicted: pd.DataFrame, true: pd.DataFrame) -> pd.DataFrame:
    """`measures` of every run: ``arm, seed`` and its columns."""
    rows = []
    for (arm, seed), of in predicted.groupby(["arm", "seed"], sort=False):
        present = of.dropna(axis="columns", how="all")
        found = measures(with_labels(present, true))
        found.insert(0, "arm", arm)
        found.insert(1, "seed", seed)
        rows.append(found)
    return pd.concat(rows, ignore_index=True)


def difference_table(
    predicted: pd.DataFrame, true: pd.DataFrame, pairs: Sequence[tuple[str, str]], confidence: float = 0.95
) -> pd.DataFrame:
    """How much better one arm ranks the pictures of each test set than another, run against run.

    Args:
        pairs: (arm, reference).

    Returns:
        A row a set and pair: ``dataset, arm, reference, runs, difference`` (mean over shared seeds),
        ``low, high`` (bootstrap over pictures), ``better`` (seeds in which the arm was ahead), ``verdict``;
        see `intervals.difference`.
    """
    rows = []
    for name, of in parts(true):
        scored = of[of["mos"].notna()]
        if scored.empty:
            continue
        wide = predicted[predicted["dataset"] == scored["dataset"].iloc[0]].pivot(
            index="image", columns=["arm", "seed"], values="quality"
        )
        wide, mos = wide.loc[scored["image"]], scored["mos"].to_numpy()
        for arm, reference in pairs:
            if arm not in wide or reference not in wide:
                continue
            seeds = sorted(set(wide[arm]) & set(wide[reference]))
            these = [wide[arm, seed].to_numpy() for seed in seeds]
            those = [wide[reference, seed].to_numpy() for seed in seeds]
            each = np.array(
                [agreement.srcc(a, mos) - agreement.srcc(b, mos) for a, b in zip(these, those, strict=True)]
            )
            low, high = interval(these, those, mos, confidence)
            row = {"dataset": name, "arm": arm, "reference": reference, "runs": len(seeds)}
            rows.append(row | difference(each, low, high))
    return pd.DataFrame(rows)


def level_table(predicted: Mapping[str, pd.DataFrame], true: pd.DataFrame) -> pd.DataFrame:
    """The rank correlation of several methods on each test set, with its interval.

    Args:
        predicted: by method: ``dataset, image, quality``.

    Returns:
        ``dataset, method, pictures, srcc, low, high``.
    """
    rows = []
    for name, of in parts(true):
        for method, table in predicted.items():
            both = of.merge(table[["dataset", "image", "quality"]], on=["dataset", "image"])
            both = both[both["mos"].notna() & both["quality"].notna()]
            if both.empty:
                continue
            quality, mos = both["quality"].to_numpy(float), both["mos"].to_numpy(float)
            low, high = srcc_interval(quality, mos)
            srcc = 0.0 if np.ptp(quality) == 0 else agreement.srcc(quality, mos)
            row = {"dataset": name, "method": method, "pictures": len(both)}
            rows.append(row | {"srcc": srcc, "low": low, "high": high})
    return pd.DataFrame(rows)


#: What is compared with what in `write_kept`: each arm with the reference, the full one with its controls,
#: and what was trained in another way with quality alone trained so.
PAIRS = (
    *(
        (arm.name, REFERENCE)
        for arm in ARMS
        if arm.name not in (REFERENCE, "BIQ2021 regression") and not arm.name.startswith("tuned")
    ),
    *(("Q+S+D", control) for control in ("shuffled", "ensemble", "heads")),
    ("BIQ2021 Q+S+D", "BIQ2021 Q"),
    ("BIQ2021 Q", "BIQ2021 regression"),
    ("tuned Q+S+D", "tuned Q"),
)


def write_kept(
    root: str | Path, of: str = "open-frozen", folder: str | Path = KEPT, progress: bool = True
) -> None:
    """Write the tables of the study: ``runs.csv``, ``differences.csv``, ``levels.csv`` (baselines beside the
    arms), and ``arms.csv``, each arm's predictions (the first seed's) of every scored test picture.

    Args:
        root: as in `train_and_predict`.
    """
    settings, folder = profile(of), Path(folder)
    runs, differences, levels = [], [], []
    for split in SPLITS:
        sets = split_sets(settings, split, progress)
        if split == "public":
            sets = test_sets(settings, sets, progress)
        else:
            sets = [s for s in sets if s.name == "biq2021"]  # the others are tested the same
        true, predicted = labels(sets, settings.session), gathered(root, of, split)
        first = predicted[predicted["seed"] == predicted["seed"].min()]
        methods = {arm: table for arm, table in first.groupby("arm", sort=False)}
        methods |= baseline_predictions(sets, settings, progress)
        runs.append(run_table(predicted, true).assign(split=split))
        differences.append(difference_table(predicted, true, PAIRS).assign(split=split))
        levels.append(level_table(methods, true).assign(split=split))
        if split == "public":
            wide = first.pivot(index=["dataset", "image"], columns="arm", values="quality").reset_index()
            scored = true.loc[true["mos"].notna(), ["dataset", "image", "mos", "near_duplicate"]]
            write_csv(folder / "arms.csv", scored.merge(wide, on=["dataset", "image"]))
    for name, tables in (("runs", runs), ("differences", differences), ("levels", levels)):
        write_csv(folder / f"{name}.csv", pd.concat(tables, ignore_index=True).round(5))


def baseline_predictions(
    sets: Sequence[LabelledPictures], settings: Profile, progress: bool = True
) -> dict[str, pd.DataFrame]:
    """What the methods of `baselines` say of the scored test pictures; those that cannot be had are left out.

    The ridge learns from BIQ2021's training part, from the embeddings of the frozen tower. The others look at
    files, and say nothing of a set as shown, whose files are those of the set as it is.
    """
    scored = [s for s in sets if s.table["mos"].notna().any()]
    rows = {s.name: test_rows(s, settings.session) for s in scored}
    names = {
        s.name: pd.DataFrame({"dataset": s.name, "image": s.table["image"].iloc[rows[s.name]].to_numpy()})
        for s in scored
    }
    as_they_are, found = [s for s in scored if not s.name.endswith(AS_SHOWN)], {}
    files = [file for s in as_they_are for file in baselines.files_of(s, rows[s.name])]
    of_files = pd.concat([names[s.name] for s in as_they_are], ignore_index=True)
    for method, score in baselines.BLIND.items():
        try:
            found[method] = of_files.assign(quality=score(files))
        except ImportError:
            continue
    frozen = profile("open-frozen")
    tower = build_model(frozen)
    kept = {s.name: kept_windows(s, tower, None, progress, frozen.precision) for s in scored}
    quality = baselines.ridge(kept["biq2021"], settings.session, [(kept[name], rows[name]) for name in kept])
    return found | {"ridge": pd.concat(names, ignore_index=True).assign(quality=np.concatenate(quality))}


def write_tiny(
    checkpoint: str | Path, folder: str | Path = KEPT, windows: int = 15, progress: bool = True
) -> None:
    """Make the model in the box from a run of profile ``open-third``, and the table of what it says.

    The weights are rounded to half precision; what is tested is what is shipped.

    Args:
        checkpoint: of the run, such as ``runs/open/tiny/best_quality.safetensors``.
        folder: where ``liqe-tiny.csv`` goes: the labels of every test picture, and the model's answers.
        windows: how many of a picture it looks at, whatever validation made do with.
    """
    recipe, model = read_recipe(checkpoint), LIQE.from_checkpoint(checkpoint)
    model.geometry = dataclasses.replace(model.geometry, count=windows)
    model.save(PACKAGED["liqe-tiny"], recipe, torch.float16)
    settings = profile("open", session=recipe["session"])
    sets = test_sets(settings, sets_for(settings, progress), progress)
    said = predictions(LIQE.from_checkpoint("liqe-tiny"), sets, settings.session)
    table = with_labels(said.round({"quality": 4}), labels(sets, settings.session))
    write_csv(Path(folder) / "liqe-tiny.csv", table)
