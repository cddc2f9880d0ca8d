"""Weights on labelled datasets: a session's test part of those they were trained on, all of those they never
saw. So weights that somebody else trained make the first line of the paper's tables, with no training.

An image that is missing, damaged or smaller than a crop cannot be scored (the public loaders stop there). It
is left out, counted and listed, and the rest of its set is measured. `within_set` and `unseen_sets` show
their rows, and those of our own runs, below the published ones.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from liqe_core import agreement
from liqe_core.data.labelled import LabelledImages
from liqe_core.data.labels import read_labels
from liqe_core.data.manifests import TRAINING_SETS, ManifestError, load_manifest
from liqe_core.data.presence import find_images
from liqe_core.data.verification import status
from liqe_core.evaluation.measuring import measure, predict
from liqe_core.files import first_few, json_sha256, write_csv, write_json
from liqe_core.model import LIQE
from liqe_core.prediction import expected_quality
from liqe_core.studies import paper_tables
from liqe_core.studies.finished import FinishedRun
from liqe_core.studies.paper_tables import beside, load_published

WITHIN, UNSEEN = "within-set", "unseen"
#: The sets whose public loaders draw test windows at random (`crops.random_crops`); all others' are even.
RANDOM_WINDOWS = ("spaq", "tid2013", "pipal")
_METRICS = {"srcc": "SRCC", "plcc": "PLCC", "krcc": "KRCC", "rmse": "RMSE"}
_METRICS |= {f"{axis}_accuracy": f"{axis} accuracy" for axis in ("scene", "distortion")}
#: The results of a set that has none.
NOTHING = pd.DataFrame(columns=["dataset", "metric", "value", "images", "left_out", "details"])


def what_is_missing(name: str) -> str:
    """What has to be done before a dataset can be used; "" when its images are there. Fetches nothing."""
    try:
        found = status(load_manifest(name))
    except ManifestError:
        return "no manifest: this project does not read the dataset yet"
    return f"no images: {found.next}" if found.state == "absent" else ""


def find_set(name: str, get: Callable[[str], LabelledImages]) -> LabelledImages | str:
    """A dataset, or why there is none: a few words, a colon, the whole."""
    if missing := what_is_missing(name):
        return missing
    try:
        return get(name)
    except (ValueError, OSError) as error:  # damaged: the other sets still count
        return f"no result: {' '.join(str(error).split())}"


def _measure(
    model: LIQE, dataset: LabelledImages, within: bool, conditions: Mapping[str, Any]
) -> tuple[pd.DataFrame, str]:
    """The rows of a dataset, with accuracies where its test part is measured; or why there are none."""
    window = model.geometry.window
    small = {} if within else dataset.too_small(window)
    left_out = dict(dataset.left_out)
    left_out |= {image: f"{size}, smaller than a crop of {window}" for image, size in small.items()}
    names = first_few([f"{dataset.name}/{image} ({reason})" for image, reason in left_out.items()])
    count = f"{len(left_out)} of {len(dataset) + len(dataset.left_out)} images are left out"
    details = f"{count}: {names}" if left_out else ""
    if within:
        try:
            (row,) = measure(model, [dataset], conditions["session"], "test").to_dict("records")
        except ValueError as error:  # nothing in the part
            return NOTHING, f"no result: {error}"
    else:
        scored = np.flatnonzero(~dataset.table["image"].isin(list(small)))
        if len(scored) == 0:
            return NOTHING, f"no result: {details}"
        random = conditions["windows"] == "public" and dataset.name in RANDOM_WINDOWS
        joint = predict(model, dataset, scored, seed=conditions["seed"] if random else None)
        quality, mos = expected_quality(joint).numpy(), dataset.table["mos"].to_numpy(float)[scored]
        if reason := agreement.reason(quality, mos):
            return NOTHING, f"not defined: {reason}"
        row = {"images": len(scored)} | agreement.agreement(quality, mos)
    metrics = {metric: row[key] for key, metric in _METRICS.items() if key in row}
    table = pd.DataFrame({"dataset": dataset.name, "metric": list(metrics), "value": list(metrics.values())})
    return table.assign(images=row["images"], left_out=len(left_out), details=details), ""


class Check(NamedTuple):
    """What was measured of one file of weights.

    Attributes:
        name: of the weights.
        conditions: what it was measured with: `checkpoint`, `sha256`, `session`, ...
        results: a row a set and metric: `protocol` (``within-set`` or ``unseen``), `dataset`, `metric`,
            `value`, `images` that were measured, `left_out` for being missing, damaged or too small, and
            `details`, which these are, or ""; and `image_list`, a checksum of the images' names.
        reasons: why a set has none: a few words, a colon, the whole.
    """

    name: str
    conditions: dict[str, Any]
    results: pd.DataFrame
    reasons: dict[str, str]


def plan(names: Sequence[str], session: int) -> pd.DataFrame:
    """What there is to measure; opens no image.

    Returns:
        A row a set: `dataset`, `protocol`, how many `images` are there of those `expected`, which are
        `absent`, and `missing`, what has to be done before it can be measured; "" where nothing is.
    """
    table = []
    for name in names:
        protocol = WITHIN if name in TRAINING_SETS else UNSEEN
        missing, images, absent = what_is_missing(name), pd.Series(dtype=str), []
        if not missing and (manifest := load_manifest(name)).form not in ("", "distorted"):
            labels = read_labels(manifest)
            labels = labels[labels[f"session_{session}"] == "test"] if protocol == WITHIN else labels
            images = labels["image"]
            found = find_images(images, manifest.folder(), manifest.image_folders)
            absent = found.loc[found["match"] == "missing", "image"].tolist()
        table.append((name, protocol, len(images) - len(absent), len(images), first_few(absent), missing))
    return pd.DataFrame(table, columns=["dataset", "protocol", "images", "expected", "absent", "missing"])


def check(
    model: LIQE,
    names: Sequence[str],
    get: Callable[[str], LabelledImages],
    folder: Path,
    conditions: dict[str, Any],
    show: Callable[[str], None] = print,
) -> Check:
    """Measure a model on each set, and write ``results.csv`` and ``check.json`` anew after every one.

    A folder that holds a part of the same check is gone on with: a set that has results there of the same
    images is not measured again, whatever else `names` has.

    Args:
        names: of the data sets.
        get: from a name to the data set; raises ValueError where it is not there.
        folder: where to write; its name is that of the weights.
        conditions: `trained_on` (if missing: `TRAINING_SETS`), the sets that are tested on a session's test
            part, others on all images; `session`; `windows` of unseen sets, ``even`` or ``public``: random
            ones in `RANDOM_WINDOWS` (see `Profile.unseen_windows`), and their `seed`: a draw as the public
            loaders', not theirs, which depends on how many processes read; what else tells one check from
            another, such as a checksum of the weights.
        show: is called with a line about each set.
    """
    done = Check(folder.name, conditions, pd.DataFrame(columns=["protocol", *NOTHING, "image_list"]), {})
    if (folder / "check.json").is_file() and (earlier := _read(folder)).conditions == conditions:
        done = earlier._replace(reasons={})
    for name in names:
        dataset, image_list, table = find_set(name, get), "", NOTHING
        protocol = WITHIN if name in conditions.get("trained_on", TRAINING_SETS) else UNSEEN
        if isinstance(dataset, str):
            reason = dataset
        else:
            image_list = json_sha256([dataset.table["image"].tolist(), dict(dataset.left_out)])[:16]
            if ((done.results["dataset"] == name) & (done.results["image_list"] == image_list)).any():
                show(f"{name}: measured already")
                continue
            table, reason = _measure(model, dataset, protocol == WITHIN, conditions)
        table = table.assign(protocol=protocol, image_list=image_list)[done.results.columns]
        earlier = done.results[done.results["dataset"] != name]
        pieces = [piece for piece in (earlier, table) if len(piece)] or [table]
        reasons = done.reasons | ({name: reason} if reason else {})
        done = done._replace(results=pd.concat(pieces, ignore_index=True), reasons=reasons)
        write_csv(folder / "results.csv", done.results)
        write_json(folder / "check.json", conditions | {"reasons": done.reasons})
        value, details = table.loc[table["metric"] == "SRCC", "value"], "".join(table["details"][:1])
        found = f"SRCC {value.iloc[0]:.4f}" if len(value) else reason
        show("; ".join(filter(None, [f"{name}: {found}", details])))
    return done


def rows(checks: Iterable[Check], published: pd.DataFrame, protocol: str) -> dict[str, pd.DataFrame]:
    """Rows of checked weights for `paper_tables.with_ours`, by their names: what was measured, beside what
    is published."""
    tables = {}
    for checked in checks:
        reasons = dict.fromkeys(published["dataset"], "no metric: not measured") | checked.reasons
        own = checked.results.query("protocol == @protocol").rename(columns={"value": "ours"})
        compared = beside(published, own, reasons.__getitem__, value="ours")
        alone = own[~own["dataset"].isin(compared["dataset"])][["dataset", "metric", "ours"]]
        part = f", session {checked.conditions['session']}" if protocol == WITHIN else ""
        table = pd.concat([compared, alone.assign(reason="")], ignore_index=True)
        left_out = own[own["left_out"] > 0].drop_duplicates("dataset").set_index("dataset")["left_out"]
        partial = table["dataset"].map(left_out.map("without {} images".format)).fillna("")
        table["reason"] = table["reason"].where(table["ours"].isna(), partial)
        tables[f"{checked.name}{part}"] = table
    return tables


def check_folder(root: str | Path, checkpoint: str) -> Path:
    """Where what was measured of weights is kept, below the folder of a profile's runs."""
    return Path(root) / "check" / Path(checkpoint).stem


def read_checks(root: str | Path) -> list[Check]:
    """Whatever was measured so far, by name."""
    return [_read(path.parent) for path in sorted(Path(root).glob("check/*/check.json"))]


def _read(folder: Path) -> Check:
    conditions = json.loads((folder / "check.json").read_text(encoding="utf-8"))
    results = pd.read_csv(folder / "results.csv", keep_default_na=False, na_values={"value": [""]})
    return Check(folder.name, conditions, results, conditions.pop("reasons"))


class Beside(NamedTuple):
    """A table of the paper with ours below.

    Attributes:
        text: from `paper_tables.with_ours`.
        left_out: what the rows that were left out have, as a sentence; see `paper_tables.mostly_known`.
        compared: every published number of LIQE with ours.
    """

    text: pd.DataFrame
    left_out: str
    compared: pd.DataFrame


def within_set(runs: Sequence[FinishedRun], checks: Sequence[Check]) -> Beside:
    """The paper's table of its six sets, with the rows of checked weights and of our runs below.

    Args:
        runs: of the profile `paper`; none: there is no run to compare.
    """

    def why_not(name: str) -> str:
        reason = what_is_missing(name) or "its images are here"
        missing_run = f"no run: profile paper has no finished run; {reason}"
        return "no metric: the runs did not measure it" if runs else missing_run

    published = load_published()
    within = published[published["protocol"] == WITHIN]
    compared, averaged = (
        beside(within, paper_tables.ours_within(runs, kept), why_not) for kept in ("quality", "average")
    )
    checked = rows(checks, within, WITHIN)
    sessions = len({run.repeat[0] for run in runs})
    ours = {**checked, f"ours ({sessions} sessions)": compared, "ours, best by average": averaged}
    table = paper_tables.method_table(within, TRAINING_SETS, ["SRCC", "PLCC"])
    table, left_out = paper_tables.mostly_known(table)
    values = {name: row["ours"].to_numpy() for name, row in checked.items()}
    compared = compared.assign(best_by_average=averaged["ours"], **values)
    return Beside(paper_tables.with_ours(table, ours), left_out, compared)


def unseen_sets(protocol: str, compared: pd.DataFrame, checks: Sequence[Check]) -> Beside:
    """A table of sets that were never trained on, with the rows of checked weights and ours below.

    Args:
        protocol: ``unseen``, or ``aigc`` for generated images.
        compared: ours beside the published numbers, as `10_paper_tables` keeps them. A set
            without a published number has a column where ours was measured.
    """
    published = load_published()
    known = published[published["protocol"] == protocol]
    names = list(dict.fromkeys(known["dataset"]))
    if protocol == UNSEEN:
        names += list(compared.loc[compared["published"].isna() & compared["ours"].notna(), "dataset"])
    table, left_out = paper_tables.mostly_known(paper_tables.method_table(known, names, ["SRCC"]))
    ours = rows(checks, known, UNSEEN) | {"ours": compared}
    return Beside(paper_tables.with_ours(table, ours), left_out, compared)
