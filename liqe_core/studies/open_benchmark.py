"""The open benchmark: does it help quality to learn scenes and distortions too? On data that anyone may have.

Every arm of the study is trained on the same batches from the same seeds; what differs is the prompts, the
labels or the losses. Test images are predicted once, when all choices are made, and what was predicted is
kept as small tables, so that every figure can be drawn again without the images.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from liqe_core.checkpoints import PACKAGED, read_recipe
from liqe_core.data.labelled import LabelledImages
from liqe_core.data.manifests import load_manifest, manifest_dir
from liqe_core.data.splits import SESSION_COLUMNS, by_neighbours, near_duplicates
from liqe_core.evaluation.measuring import predict
from liqe_core.files import write_csv
from liqe_core.model import LIQE
from liqe_core.prediction import expected_quality, marginal
from liqe_core.prompts import VARIANTS
from liqe_core.studies import baselines
from liqe_core.studies.open_tables import difference_table, level_table, run_table, with_labels
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
        only_labelled: of BIQ2021's training part, the images alone that have labels of all tasks.
    """

    name: str
    meaning: str
    changes: Mapping[str, Any]
    only_labelled: bool = False


#: Of an arm whose image tower trains too: what profile ``open`` has for that, a few groups of layers, and as
#: many steps as two cores take in some minutes.
_AS_OPEN = ("keep_windows", "precision", "learning_rate", "quality_weight", "plcc_weight")
TUNED: Mapping[str, Any] = {name: profile("open").flat()[name] for name in _AS_OPEN} | {
    "unlocked_groups": 8,
    "steps": 20,
    "measured": 200,
}
_Q, _QS, _QD = ({"variant": variant} for variant in VARIANTS[:3])
_SHUFFLED = {"control": "shuffled labels"}

ARMS = (
    Arm("Q", "quality alone, its own five prompts", _Q),
    Arm("Q+S", "quality and scene", _QS),
    Arm("Q+D", "quality and distortion", _QD),
    Arm("Q+S+D", "all three, as LIQE", {}),
    Arm("shuffled", "all three, scenes and distortions of other images", _SHUFFLED),
    Arm("ensemble", "all 495 prompts, quality loss alone", {"control": "quality alone"}),
    Arm("heads", "all three, a linear head each in place of prompts", {"control": "separate heads"}),
    Arm(
        "regression",
        "quality alone, by squared error, a linear head in place of prompts",
        {**_Q, "control": "separate heads", "quality_loss": "squared error"},
    ),
    Arm("labelled Q", "as Q, on the images alone that have labels of all tasks", _Q, True),
    Arm("labelled Q+S", "as Q+S, on these images", _QS, True),
    Arm("labelled Q+D", "as Q+D, on these images", _QD, True),
    Arm("labelled Q+S+D", "all three, on these images", {}, True),
    Arm("labelled shuffled", "as shuffled, on these images", _SHUFFLED, True),
    Arm("tuned Q", "quality alone, the image tower trains too", {**_Q, **TUNED}),
    Arm("tuned Q+S+D", "all three, the image tower trains too", TUNED),
    Arm("tuned shuffled", "as shuffled, the image tower trains too", {**_SHUFFLED, **TUNED}),
)
#: How BIQ2021 is split, and the arms that are trained on it so: as its authors did, or with images of
#: neighbouring numbers together (`splits.by_neighbours`).
SPLITS = {
    "public": tuple(arm.name for arm in ARMS),
    "neighbours": ("Q", "Q+S+D"),
}


def train_and_predict(
    arms: Iterable[Arm],
    seeds: Iterable[int],
    root: str | Path,
    name: str = "open-frozen",
    split: str = "public",
    progress: bool = True,
) -> None:
    """Train what is not finished and predict the test images of each run, once.

    A run's predictions lie in its folder as ``predictions.csv``; a run that has them is left alone, so that
    a study that was stopped goes on.

    Args:
        root: run folders are in ``root/<name>/<split>/<arm>-<seed>``.
        name: of the profile.
        split: one of `SPLITS`; its arms alone are trained.
    """
    base = profile(name)
    sets = {dataset.name: dataset for dataset in split_sets(base, split, progress)}
    tests = test_sets(base, sets.values(), progress)
    for seed, arm in itertools.product(seeds, arms):
        folder = Path(root) / name / split / f"{arm.name}-{seed}"
        if arm.name not in SPLITS[split] or (folder / "predictions.csv").is_file():
            continue
        settings = profile(name, seed=seed, **arm.changes)
        chosen = [sets[dataset] for dataset in settings.data.batch_sizes]
        if settings.testing.measured:
            chosen = split_sets(settings, split, progress)
        if arm.only_labelled:
            chosen = [without_unlabelled(dataset) for dataset in chosen]
        predict_run(settings, chosen, tests, folder, progress)


def predict_run(
    settings: Profile,
    sets: Sequence[LabelledImages],
    tests: Sequence[LabelledImages],
    folder: Path,
    progress: bool = True,
) -> None:
    """Train a run on `sets` unless it is finished, and write its `predictions` of `tests` into its folder."""
    if not is_finished(folder):
        fit(settings, sets, folder, progress)
    model = LIQE.from_checkpoint(folder / "best_quality.safetensors")
    if settings.model.keep_windows:
        tests = [kept_windows(part, model, None, progress, settings.machine.precision) for part in tests]
    write_csv(folder / "predictions.csv", predictions(model, tests, settings.session))


def without_unlabelled(dataset: LabelledImages) -> LabelledImages:
    """A dataset whose images without scene labels are not trained on; validation and test stay."""
    table = dataset.table.copy()
    unlabelled = ~table["scenes"].map(bool)
    for session in SESSION_COLUMNS:
        table.loc[unlabelled & (table[session] == "train"), session] = None
    return dataclasses.replace(dataset, table=table)


def split_sets(settings: Profile, split: str = "public", progress: bool = True) -> list[LabelledImages]:
    """The sets of a profile, with BIQ2021 split as `SPLITS` names it."""
    sets = sets_for(settings, progress)
    if split == "public":
        return sets
    return [
        dataclasses.replace(dataset, table=by_neighbours(dataset.table))
        if dataset.name == "biq2021"
        else dataset
        for dataset in sets
    ]


def test_sets(
    settings: Profile, trained: Iterable[LabelledImages], progress: bool = True
) -> list[LabelledImages]:
    """What is tested: of the sets that are trained on the test parts, and the unseen sets that are here; one
    that people saw at another size than it has, at both."""
    unseen = [
        labelled(manifest.name, settings, progress, missing="skip", as_shown=as_shown)
        for manifest in map(load_manifest, UNSEEN)
        if manifest.locate() is not None
        for as_shown in ((False, True) if manifest.shown else (False,))
    ]
    return [*trained, *unseen]


def test_rows(dataset: LabelledImages, session: int = 1) -> np.ndarray:
    """Which images of a set are tested: its test part, or all of an unseen set."""
    if dataset.name.removesuffix(AS_SHOWN) in UNSEEN:
        return np.arange(len(dataset))
    return dataset.part(session, "test")


def predictions(model: LIQE, sets: Iterable[LabelledImages], session: int = 1) -> pd.DataFrame:
    """What a model says of every test image.

    Returns:
        A row an image: ``dataset, image, quality`` and, where the model's grid has the axis, the likeliest
        ``distortion`` and the likeliest ``scene``, or as many as the image has labels, with ``;`` between.
    """
    tables = []
    for dataset in sets:
        rows = test_rows(dataset, session)
        joint, images = predict(model, dataset, rows), dataset.table.iloc[rows]
        table = pd.DataFrame({"dataset": dataset.name, "image": images["image"].to_numpy()})
        table["quality"] = expected_quality(joint).numpy().astype(float).round(6)
        for axis in model.grid.axes[1:]:
            words = np.array(model.grid.names(axis))
            likeliest = words[marginal(joint, axis).argsort(dim=1, descending=True, stable=True).numpy()]
            counts = images["scenes"].str.len() if axis == "scene" else [1] * len(rows)
            pairs = zip(likeliest, counts, strict=True)
            table[axis] = [";".join(named[: max(1, count)]) for named, count in pairs]
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def labels(sets: Iterable[LabelledImages], session: int = 1) -> pd.DataFrame:
    """The labels of the test images, in the order of `predictions`.

    Returns:
        ``dataset, image, mos, true_distortion, scenes`` (words with ``;`` between), ``reference``, and
        ``near_duplicate``: the training part has the same photograph (see `data.splits`).
    """
    tables = []
    for dataset in sets:
        table = dataset.table.iloc[test_rows(dataset, session)]
        chosen = table[["dataset", "image", "mos"]].assign(
            true_distortion=table["distortion_group"],
            scenes=table["scenes"].str.join(";"),
            reference=table["reference"],
            near_duplicate=False,
        )
        if dataset.name == "biq2021":
            pairs = near_duplicates(dataset.table, load_manifest("biq2021").folder(), session=session)
            chosen["near_duplicate"] = chosen["image"].isin(pairs.loc[pairs["part"] == "test", "image"])
        tables.append(chosen)
    return pd.concat(tables, ignore_index=True)


def gathered(root: str | Path, name: str = "open-frozen", split: str = "public") -> pd.DataFrame:
    """The predictions of every run of the study that has them: `predictions` with ``arm`` and ``seed``."""
    tables = []
    for file in sorted((Path(root) / name / split).glob("*/predictions.csv")):
        arm, seed = file.parent.name.rsplit("-", 1)
        tables.append(pd.read_csv(file).assign(arm=arm, seed=int(seed)))
    return pd.concat(tables, ignore_index=True)


#: What is compared with what in `write_kept`: each arm with quality alone, trained in the same way on the
#: same images, and the full one with its controls.
PAIRS = (
    *((arm, "Q") for arm in ("Q+S", "Q+D", "Q+S+D", "shuffled", "ensemble", "heads", "regression")),
    *(("Q+S+D", control) for control in ("shuffled", "ensemble", "heads")),
    *((f"labelled {arm}", "labelled Q") for arm in ("Q+S", "Q+D", "Q+S+D", "shuffled")),
    ("labelled Q+S+D", "labelled shuffled"),
    ("tuned Q+S+D", "tuned Q"),
    ("tuned Q+S+D", "tuned shuffled"),
)


def write_kept(
    root: str | Path, name: str = "open-frozen", folder: str | Path = KEPT, progress: bool = True
) -> None:
    """Write the tables of the study: ``runs.csv``, ``differences.csv``, ``levels.csv`` (baselines beside the
    arms), and ``arms.csv``, each arm's predictions (the first seed's) of every scored test image.

    Args:
        root, name: as in `train_and_predict`.
    """
    settings, folder = profile(name), Path(folder)
    tables: dict[str, list[pd.DataFrame]] = {"runs": [], "differences": [], "levels": []}
    for split in SPLITS:
        sets = split_sets(settings, split, progress)
        if split == "public":
            sets = test_sets(settings, sets, progress)
        else:
            sets = [dataset for dataset in sets if dataset.name == "biq2021"]  # tests of others are the same
        true, predicted = labels(sets, settings.session), gathered(root, name, split)
        first = predicted[predicted["seed"] == predicted["seed"].min()]
        methods = dict(iter(first.groupby("arm", sort=False)))
        methods |= baseline_predictions(sets, settings, progress)
        tables["runs"].append(run_table(predicted, true).assign(split=split))
        tables["differences"].append(difference_table(predicted, true, PAIRS).assign(split=split))
        tables["levels"].append(level_table(methods, true).assign(split=split))
        if split == "public":
            wide = first.pivot(index=["dataset", "image"], columns="arm", values="quality").reset_index()
            scored = true.loc[true["mos"].notna(), ["dataset", "image", "mos", "near_duplicate"]]
            write_csv(folder / "arms.csv", scored.merge(wide, on=["dataset", "image"]))
    for kind, pieces in tables.items():
        write_csv(folder / f"{kind}.csv", pd.concat(pieces, ignore_index=True).round(5))


def baseline_predictions(
    sets: Sequence[LabelledImages], settings: Profile, progress: bool = True
) -> dict[str, pd.DataFrame]:
    """What the methods of `baselines` say of the scored test images; those that cannot be had are left out.

    The ridge learns from BIQ2021's training part, from the embeddings of the frozen tower. The others look at
    files, and say nothing of a set as shown, whose files are those of the set as it is.
    """
    scored = {dataset.name: dataset for dataset in sets if dataset.table["mos"].notna().any()}
    rows = {name: test_rows(dataset, settings.session) for name, dataset in scored.items()}
    images = {
        name: pd.DataFrame({"dataset": name, "image": dataset.table["image"].iloc[rows[name]].to_numpy()})
        for name, dataset in scored.items()
    }
    with_files = [name for name in scored if not name.endswith(AS_SHOWN)]
    files = [file for name in with_files for file in baselines.files_of(scored[name], rows[name])]
    found = {}
    for method, score in baselines.BLIND.items():
        with contextlib.suppress(ImportError):
            table = pd.concat([images[name] for name in with_files], ignore_index=True)
            found[method] = table.assign(quality=score(files))
    frozen = profile("open-frozen")
    tower = build_model(frozen)
    kept = {
        name: kept_windows(dataset, tower, None, progress, frozen.machine.precision)
        for name, dataset in scored.items()
    }
    quality = baselines.ridge(kept["biq2021"], settings.session, [(kept[name], rows[name]) for name in kept])
    table = pd.concat(images, ignore_index=True)
    return found | {"ridge": table.assign(quality=np.concatenate(quality))}


def write_tiny(
    checkpoint: str | Path, folder: str | Path = KEPT, windows: int = 15, progress: bool = True
) -> None:
    """Make the model in the box from a run of profile ``open``, and the table of what it says.

    The weights are rounded to half precision; what is tested is what is shipped.

    Args:
        checkpoint: of the run, such as ``runs/open/tiny/best_quality.safetensors``.
        folder: where ``liqe-tiny.csv`` goes: the labels of every test image, and the model's answers.
        windows: how many of an image it looks at, whatever validation made do with.
    """
    recipe, model = read_recipe(checkpoint), LIQE.from_checkpoint(checkpoint)
    model.geometry = dataclasses.replace(model.geometry, count=windows)
    model.save(PACKAGED["liqe-tiny"], recipe, torch.float16)
    settings = profile("open", session=recipe["session"], measured=0)
    sets = test_sets(settings, sets_for(settings, progress), progress)
    predicted = predictions(LIQE.from_checkpoint("liqe-tiny"), sets, settings.session)
    table = with_labels(predicted.round({"quality": 4}), labels(sets, settings.session))
    write_csv(Path(folder) / "liqe-tiny.csv", table)
