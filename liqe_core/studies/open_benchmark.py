"""The open benchmark: does learning scenes and distortions improve quality prediction? On public data only.

The arms of a group (all scored images, labelled images alone, trained tower) see the same batches with the
same seeds; they differ in prompts, labels or losses. Each run predicts the test images once. The predictions
are saved as small tables, so that every figure can be redrawn without the images.
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

#: The folder of this study's tables.
KEPT = manifest_dir() / "open"

#: Datasets that no arm trains on; all their images are tested.
UNSEEN = ("hevc", "tid2013-part")


@dataclasses.dataclass(frozen=True)
class Arm:
    """An arm of the study: one way to train.

    Attributes:
        name: the name in the tables. meaning: a one-line description. changes: settings of the profile.
        only_labelled: train only on the images of BIQ2021 that have a scene label; few of them have a
            distortion label too.
        teacher: the name of an arm that comes earlier. Images without labels get those that its run of the
            same seed predicts (pseudo-labels).
    """

    name: str
    meaning: str
    changes: Mapping[str, Any]
    only_labelled: bool = False
    teacher: str = ""


#: Settings of arms that also train the image tower: the learning rate and the losses of profile ``open``,
#: with few unlocked groups and few steps, so that two cores need only some minutes.
_AS_OPEN = ("keep_windows", "precision", "learning_rate", "quality_weight", "scene_weight", "plcc_weight")
TUNED: Mapping[str, Any] = {name: profile("open").flat()[name] for name in _AS_OPEN} | {
    "unlocked_groups": 8,
    "steps": 20,
    "measured": 200,
}
_Q, _QS, _QD = ({"variant": variant} for variant in VARIANTS[:3])
_SHUFFLED = {"control": "shuffled labels"}

ARMS = (
    Arm("Q", "quality alone, with its five prompts", _Q),
    Arm("Q+S", "quality and scene", _QS),
    Arm("Q+D", "quality and distortion", _QD),
    Arm("Q+S+D", "all three, as LIQE", {}),
    Arm("shuffled", "all three, with scenes and distortions of other images", _SHUFFLED),
    Arm("ensemble", "all 495 prompts, only the quality loss", {"control": "quality alone"}),
    Arm("heads", "all three, with linear heads instead of prompts", {"control": "separate heads"}),
    Arm(
        "regression",
        "quality alone, with squared error and a linear head instead of prompts",
        {**_Q, "control": "separate heads", "quality_loss": "squared error"},
    ),
    Arm("labelled Q", "as Q, only on images with a scene label", _Q, True),
    Arm("labelled Q+S", "as Q+S, only on images with a scene label", _QS, True),
    Arm("labelled Q+D", "as Q+D, only on images with a scene label", _QD, True),
    Arm("labelled Q+S+D", "as Q+S+D, only on images with a scene label", {}, True),
    Arm("labelled shuffled", "as shuffled, only on images with a scene label", _SHUFFLED, True),
    Arm("pseudo-labelled", "as Q+S+D, with labels predicted by labelled Q+S+D", {}, teacher="labelled Q+S+D"),
    Arm("tuned Q", "as Q, the image tower is trained too", {**_Q, **TUNED}),
    Arm("tuned Q+S+D", "as Q+S+D, the image tower is trained too", TUNED),
    Arm("tuned shuffled", "as shuffled, the image tower is trained too", {**_SHUFFLED, **TUNED}),
)
#: The splits of BIQ2021 and the arms trained on each: the authors' split, and one that keeps images with
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
    """Train all unfinished runs and predict the test images of each run once.

    The predictions are saved as ``predictions.csv`` in the run folder. Runs with this file are skipped, so
    that an interrupted study can be resumed.

    Args:
        root: run folders are in ``root/<name>/<split>/<arm>-<seed>``.
        name: the name of the profile.
        split: one of `SPLITS`; only its arms are trained.
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
        if arm.teacher:
            teacher = LIQE.from_checkpoint(
                folder.with_name(f"{arm.teacher}-{seed}") / "best_quality.safetensors"
            )
            chosen = [pseudo_labelled(dataset, teacher, settings, progress) for dataset in chosen]
        predict_run(settings, chosen, tests, folder, progress)


def predict_run(
    settings: Profile,
    sets: Sequence[LabelledImages],
    tests: Sequence[LabelledImages],
    folder: Path,
    progress: bool = True,
) -> None:
    """Train a run on `sets` unless it is finished, and save its `predictions` of `tests` in its folder."""
    if not is_finished(folder):
        fit(settings, sets, folder, progress)
    model = LIQE.from_checkpoint(folder / "best_quality.safetensors")
    tests = [_as_trained(part, model, settings, progress) for part in tests]
    write_csv(folder / "predictions.csv", predictions(model, tests, settings.session))


def _as_trained(dataset: LabelledImages, model: LIQE, settings: Profile, progress: bool) -> LabelledImages:
    """Return the dataset with cached features if the run was trained on them."""
    if not settings.model.keep_windows:
        return dataset
    return kept_windows(dataset, model, None, progress, settings.machine.precision)


def without_unlabelled(dataset: LabelledImages) -> LabelledImages:
    """Remove images without scene labels from the training parts; validation and test stay unchanged."""
    table = dataset.table.copy()
    unlabelled = ~table["scenes"].map(bool)
    for session in SESSION_COLUMNS:
        table.loc[unlabelled & (table[session] == "train"), session] = None
    return dataclasses.replace(dataset, table=table)


def pseudo_labelled(
    dataset: LabelledImages, teacher: LIQE, settings: Profile, progress: bool = True
) -> LabelledImages:
    """Give unlabelled training images the scene and the distortion that a model finds likeliest."""
    table = dataset.table
    rows = dataset.part(settings.session, "train")
    rows = rows[~table["scenes"].iloc[rows].map(bool).to_numpy()]
    joint = predict(teacher, _as_trained(dataset, teacher, settings, progress), rows)
    scenes, distortions = table["scenes"].tolist(), table["distortion_group"].tolist()
    likeliest = (marginal(joint, axis).argmax(dim=1).tolist() for axis in ("scene", "distortion"))
    for row, scene, distortion in zip(rows, *likeliest, strict=True):
        scenes[row] = (teacher.grid.names("scene")[scene],)
        distortions[row] = teacher.grid.names("distortion")[distortion]
    return dataclasses.replace(dataset, table=table.assign(scenes=scenes, distortion_group=distortions))


def split_sets(settings: Profile, split: str = "public", progress: bool = True) -> list[LabelledImages]:
    """Load the datasets of a profile, with the split of BIQ2021 that `SPLITS` names."""
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
    """Return the datasets to test: the trained ones and the available unseen ones.

    An unseen dataset that people saw at another size is tested at both sizes.
    """
    unseen = [
        labelled(manifest.name, settings, progress, missing="skip", as_shown=as_shown)
        for manifest in map(load_manifest, UNSEEN)
        if manifest.locate() is not None
        for as_shown in ((False, True) if manifest.shown else (False,))
    ]
    return [*trained, *unseen]


def test_rows(dataset: LabelledImages, session: int = 1) -> np.ndarray:
    """Return the rows of a dataset to test: its test part, or all rows of an unseen dataset."""
    if dataset.name.removesuffix(AS_SHOWN) in UNSEEN:
        return np.arange(len(dataset))
    return dataset.part(session, "test")


def predictions(model: LIQE, sets: Iterable[LabelledImages], session: int = 1) -> pd.DataFrame:
    """Predict every test image.

    Returns:
        A row for each image: ``dataset, image, quality`` and, if the model's grid has the axis, the likeliest
        ``distortion`` and the likeliest ``scene``; an image with k scene labels has the k likeliest scenes,
        separated by ``;``.
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
    """Tabulate the labels of the test images, in the order of `predictions`.

    Returns:
        ``dataset, image, mos, true_distortion, scenes`` (words separated by ``;``), ``reference``, and
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
    """Concatenate the saved predictions of all runs of the study, with ``arm`` and ``seed``."""
    tables = []
    for file in sorted((Path(root) / name / split).glob("*/predictions.csv")):
        arm, seed = file.parent.name.rsplit("-", 1)
        tables.append(pd.read_csv(file).assign(arm=arm, seed=int(seed)))
    return pd.concat(tables, ignore_index=True)


#: Pairs of arms that `write_kept` compares: each arm with quality alone, trained in the same way on the same
#: images, and the full arm with its controls.
PAIRS = (
    *((arm, "Q") for arm in ("Q+S", "Q+D", "Q+S+D", "shuffled", "ensemble", "heads", "regression")),
    *(("Q+S+D", control) for control in ("shuffled", "ensemble", "heads")),
    *((f"labelled {arm}", "labelled Q") for arm in ("Q+S", "Q+D", "Q+S+D", "shuffled")),
    ("labelled Q+S+D", "labelled shuffled"),
    *(("pseudo-labelled", reference) for reference in ("Q", "Q+S+D")),
    *((f"tuned {arm}", "tuned Q") for arm in ("Q+S+D", "shuffled")),
    ("tuned Q+S+D", "tuned shuffled"),
)


def write_kept(
    root: str | Path, name: str = "open-frozen", folder: str | Path = KEPT, progress: bool = True
) -> None:
    """Write the tables of the study.

    The files are ``runs.csv``, ``differences.csv``, ``levels.csv`` (arms and baselines), and ``arms.csv``,
    the predictions of each arm's first seed for every test image with a score.

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
            sets = [dataset for dataset in sets if dataset.name == "biq2021"]  # the others have one split
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
    """Predict the test images that have a score with the methods of `baselines`.

    The ridge regression learns from BIQ2021's training part, on embeddings of the frozen tower. The other
    methods read files, so they are not evaluated on resized versions of a dataset. Methods whose package is
    missing are skipped.
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
    """Make ``liqe-tiny`` from a run of profile ``open``, and write the table of its predictions.

    The weights are rounded to half precision before the test, so the shipped model is the tested one.

    Args:
        checkpoint: the run's checkpoint, such as ``runs/open/tiny/best_quality.safetensors``.
        folder: the folder of ``liqe-tiny.csv``: labels and predictions of every test image.
        windows: the number of windows of an image, which may exceed that of validation.
    """
    recipe, model = read_recipe(checkpoint), LIQE.from_checkpoint(checkpoint)
    model.geometry = dataclasses.replace(model.geometry, count=windows)
    model.save(PACKAGED["liqe-tiny"], recipe, torch.float16)
    settings = profile("open", session=recipe["session"], measured=0)
    sets = test_sets(settings, sets_for(settings, progress), progress)
    predicted = predictions(LIQE.from_checkpoint("liqe-tiny"), sets, settings.session)
    table = with_labels(predicted.round({"quality": 4}), labels(sets, settings.session))
    write_csv(Path(folder) / "liqe-tiny.csv", table)
