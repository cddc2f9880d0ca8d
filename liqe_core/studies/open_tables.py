"""Tables of the open benchmark: predictions with labels, and measures of models, arms and baselines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from liqe_core import agreement
from liqe_core.studies import baselines
from liqe_core.studies.intervals import bootstrap, difference, gain_interval, srcc_interval


def with_labels(predicted: pd.DataFrame, true: pd.DataFrame) -> pd.DataFrame:
    """Merge predictions with the labels of the same images (`open_benchmark.predictions`, `.labels`)."""
    return predicted.merge(true, on=["dataset", "image"], validate="m:1")


def parts(table: pd.DataFrame) -> Iterable[tuple[str, pd.DataFrame]]:
    """Yield the test sets by name; BIQ2021 also without near-duplicates, TID2013's part also by reference."""
    for name, part in table.groupby("dataset", sort=False):
        yield str(name), part
        if part["near_duplicate"].any():
            yield f"{name} without near-duplicates", part[~part["near_duplicate"]]
        if name == "tid2013-part":
            yield from ((f"{name} {reference}", rows) for reference, rows in part.groupby("reference"))


def scenes_found(table: pd.DataFrame) -> pd.DataFrame:
    """Count for each image with scenes its ``labels``, and those that were predicted (``found``)."""
    labelled = table[table["scenes"].fillna("") != ""]
    true, named = (labelled[column].str.split(";") for column in ("scenes", "scene"))
    hits = [
        len(set(true_scenes) & set(named_scenes))
        for true_scenes, named_scenes in zip(true, named, strict=True)
    ]
    return pd.DataFrame({"labels": true.str.len(), "found": hits}, index=labelled.index)


def _compared(table: pd.DataFrame, measure: str) -> pd.DataFrame:
    """Select the images and the two columns that a measure compares.

    The columns are predictions and scores, or the numbers of found labels and of all labels.
    """
    if measure == "scene_accuracy":
        return scenes_found(table)[["found", "labels"]]
    if measure == "distortion_accuracy":
        labelled = table[table["true_distortion"].notna()]
        return pd.DataFrame({"found": labelled["distortion"] == labelled["true_distortion"], "labels": 1})
    return table.loc[table["mos"].notna(), ["quality", "mos"]]


def _accuracy(found: np.ndarray, labels: np.ndarray) -> float:
    return found.sum() / labels.sum() if len(labels) else np.nan


#: Functions of the two columns of `_compared`.
MEASURES: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "srcc": agreement.srcc,
    "plcc": agreement.plcc,
    "scene_accuracy": _accuracy,
    "distortion_accuracy": _accuracy,
}


def measures(table: pd.DataFrame) -> pd.DataFrame:
    """Compute the measures of a model on each test set.

    Args:
        table: from `with_labels`, of one model.

    Returns:
        A row for each of `parts`: ``dataset, images, srcc, plcc`` and, if the model has the axis,
        ``scene_accuracy`` (see `agreement.scene_accuracy`), ``distortion_accuracy``, and the majority-class
        baselines ``scene_commonest`` and ``distortion_commonest``; NaN if a measure is not defined.
    """
    axes = [axis for axis in ("scene", "distortion") if axis in table]
    rows = []
    for name, part in parts(table):
        row = {"dataset": name, "images": len(part)}
        for key in ("srcc", "plcc", *(f"{axis}_accuracy" for axis in axes)):
            row[key] = MEASURES[key](*_compared(part, key).to_numpy(float).T)
        if "scene" in axes:
            words = part["scenes"].mask(part["scenes"] == "")
            row["scene_commonest"] = baselines.commonest(words.astype(object).str.split(";"))
        if "distortion" in axes:
            row["distortion_commonest"] = baselines.commonest(part["true_distortion"])
        rows.append(row)
    return pd.DataFrame(rows)


def run_table(predicted: pd.DataFrame, true: pd.DataFrame) -> pd.DataFrame:
    """Compute `measures` of every run: ``arm``, ``seed`` and its columns."""
    runs = predicted.groupby(["arm", "seed"], sort=False)
    tables = {run: measures(with_labels(rows.dropna(axis="columns", how="all"), true)) for run, rows in runs}
    return pd.concat(tables, names=["arm", "seed"]).reset_index(["arm", "seed"]).reset_index(drop=True)


def same_photograph(table: pd.DataFrame) -> list[np.ndarray] | None:
    """Group the images that a bootstrap draws together, those of one photograph (``reference``).

    Returns:
        The row numbers of each group; None if there are fewer than two references, so each image is drawn on
        its own.
    """
    if table["reference"].nunique() < 2:
        return None
    return list(table.groupby(table["reference"].fillna(table["image"])).indices.values())


def difference_table(
    predicted: pd.DataFrame, true: pd.DataFrame, pairs: Sequence[tuple[str, str]]
) -> pd.DataFrame:
    """Compute the difference in SRCC between pairs of arms on each test set, over shared seeds.

    Args:
        pairs: (arm, reference).

    Returns:
        A row for each dataset and pair: ``dataset, arm, reference, runs, difference`` (mean over shared
        seeds), ``low, high`` (bootstrap over photographs and runs), ``better`` (seeds in which the arm has
        the higher SRCC), ``verdict``; see `intervals.difference`.
    """
    rows = []
    for name, part in parts(true[true["mos"].notna()]):
        answers = predicted[predicted["dataset"] == part["dataset"].iloc[0]]
        wide = answers.pivot(index="image", columns=["arm", "seed"], values="quality").loc[part["image"]]
        mos = part["mos"].to_numpy()
        for arm, reference in pairs:
            if arm not in wide or reference not in wide:
                continue
            seeds = sorted(set(wide[arm]) & set(wide[reference]))
            runs, against = ([wide[way, seed].to_numpy() for seed in seeds] for way in (arm, reference))
            srccs = np.array([[agreement.srcc(run, mos) for run in group] for group in (runs, against)])
            row = {"dataset": name, "arm": arm, "reference": reference, "runs": len(seeds)}
            interval = gain_interval(runs, against, mos, same_photograph(part))
            rows.append(row | difference(srccs[0] - srccs[1], *interval))
    return pd.DataFrame(rows)


def level_table(predicted: Mapping[str, pd.DataFrame], true: pd.DataFrame) -> pd.DataFrame:
    """Compute the SRCC of several methods on each test set, with its interval.

    Args:
        predicted: the predictions by method: ``dataset, image, quality``.

    Returns:
        ``dataset, method, images, srcc, low, high``.
    """
    rows = []
    for name, part in parts(true):
        for method, table in predicted.items():
            both = part.merge(table[["dataset", "image", "quality"]], on=["dataset", "image"])
            both = both.dropna(subset=["mos", "quality"])
            if both.empty:
                continue
            quality, mos = both["quality"].to_numpy(float), both["mos"].to_numpy(float)
            low, high = srcc_interval(quality, mos, same_photograph(both))
            srcc = 0.0 if np.ptp(quality) == 0 else agreement.srcc(quality, mos)
            row = {"dataset": name, "method": method, "images": len(both)}
            rows.append(row | {"srcc": srcc, "low": low, "high": high})
    return pd.DataFrame(rows)


#: The datasets and measures of a model card.
ON_THE_CARD = (
    *((name, "srcc") for name in ("biq2021", "biq2021 without near-duplicates", "open-distorted")),
    ("open-distorted", "distortion_accuracy"),
    *((name, "scene_accuracy") for name in ("scenes", "biq2021")),
    *((name, "srcc") for name in ("hevc", "hevc as shown")),
)


def card_table(table: pd.DataFrame) -> pd.DataFrame:
    """Make the results table of a model card.

    Args:
        table: from `with_labels`, of one model.

    Returns:
        A row for each of `ON_THE_CARD` that the table has: ``dataset``, ``measure``, ``images``, ``reached``,
        ``low`` and ``high`` (95 % bootstrap interval over photographs; images made from the same photograph
        are drawn together), ``commonest``: the majority-class baseline, or 0 for a constant score.
    """
    by_name, reached, rows = dict(parts(table)), measures(table).set_index("dataset"), []
    for name, measure in ON_THE_CARD:
        if name not in by_name:
            continue
        compared = _compared(by_name[name], measure)
        part, values = by_name[name].loc[compared.index], compared.to_numpy(float)
        # In `scenes`, every image is a photograph of its own and `reference` is the source.
        grouped = None if name == "scenes" else same_photograph(part)
        groups = grouped or list(part.groupby("image").indices.values())

        def measured(drawn, values=values, groups=groups, measure=measure) -> float:
            return MEASURES[measure](*values[np.concatenate([groups[i] for i in drawn])].T)

        row = {"dataset": name, "measure": measure, "images": len(part)}
        row["reached"] = reached.loc[name, measure]
        row["low"], row["high"] = bootstrap(len(groups), measured)
        commonest = reached.loc[name].get(measure.replace("accuracy", "commonest"))
        rows.append(row | {"commonest": 0.0 if measure == "srcc" else commonest})
    return pd.DataFrame(rows)
