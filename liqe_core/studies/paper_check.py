"""Check published weights on labelled datasets, without training.

Datasets that the weights were trained on are measured on a session's test part, all others on all images.
An image that is missing, damaged or smaller than a crop cannot be scored (the public loaders stop at such an
image). It is excluded, counted and listed, and the other images are measured. `within_set` and `unseen_sets`
show the results, and those of our own runs, below the published numbers.
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
#: Datasets whose public loaders draw test windows at random (`crops.random_crops`) instead of evenly.
RANDOM_WINDOWS = ("spaq", "tid2013", "pipal")
_METRICS = {"srcc": "SRCC", "plcc": "PLCC", "krcc": "KRCC", "rmse": "RMSE"}
_METRICS |= {f"{axis}_accuracy": f"{axis} accuracy" for axis in ("scene", "distortion")}
#: An empty table of results.
NOTHING = pd.DataFrame(columns=["dataset", "metric", "value", "images", "left_out", "details"])


def reason_unavailable(name: str) -> str:
    """Return what to do before a dataset can be used; "" if its images exist. Downloads nothing."""
    try:
        found = status(load_manifest(name))
    except ManifestError:
        return "no manifest: this project does not support the dataset yet"
    return f"no images: {found.next}" if found.state == "absent" else ""


def find_set(name: str, get: Callable[[str], LabelledImages]) -> LabelledImages | str:
    """Return a dataset, or the reason why it is unavailable, as "SUMMARY: DETAILS"."""
    if missing := reason_unavailable(name):
        return missing
    try:
        return get(name)
    except (ValueError, OSError) as error:  # a damaged dataset must not stop the others
        return f"no result: {' '.join(str(error).split())}"


def _measure(
    model: LIQE, dataset: LabelledImages, within: bool, conditions: Mapping[str, Any]
) -> tuple[pd.DataFrame, str]:
    """Measure a dataset, with accuracies on a test part; return the rows, or no rows and the reason."""
    window = model.geometry.window
    small = {} if within else dataset.too_small(window)
    left_out = dict(dataset.left_out)
    left_out |= {image: f"{size}, smaller than a crop of {window}" for image, size in small.items()}
    names = first_few([f"{dataset.name}/{image} ({reason})" for image, reason in left_out.items()])
    count = f"{len(left_out)} of {len(dataset) + len(dataset.left_out)} images are excluded"
    details = f"{count}: {names}" if left_out else ""
    if within:
        try:
            (row,) = measure(model, [dataset], conditions["session"], "test").to_dict("records")
        except ValueError as error:  # the part is empty
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
    """The results of checking one file of weights.

    Attributes:
        name: the name of the weights.
        conditions: the conditions of the measurement: `checkpoint`, `sha256`, `session`, ...
        results: a row for each dataset and metric: `protocol` (``within-set`` or ``unseen``), `dataset`,
            `metric`, `value`, `images` (measured), `left_out` (missing, damaged or too small), `details` (the
            excluded images, or ""), and `image_list`, a checksum of the image names.
        reasons: why datasets have no results, each as "SUMMARY: DETAILS".
    """

    name: str
    conditions: dict[str, Any]
    results: pd.DataFrame
    reasons: dict[str, str]


def plan(names: Sequence[str], session: int) -> pd.DataFrame:
    """List the datasets to measure, without opening images.

    Returns:
        A row for each dataset: `dataset`, `protocol`, the numbers of available `images` and of `expected`
        ones, the `absent` ones, and `missing`, what to do before it can be measured, or "".
    """
    table = []
    for name in names:
        protocol = WITHIN if name in TRAINING_SETS else UNSEEN
        missing, images, absent = reason_unavailable(name), pd.Series(dtype=str), []
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
    """Measure a model on each dataset, and update ``results.csv`` and ``check.json`` after each one.

    An interrupted check is resumed: a dataset with results for the same images and conditions in the folder
    is not measured again.

    Args:
        names: the datasets.
        get: loads a dataset by name; raises ValueError if it is missing.
        folder: the output folder, named after the weights.
        conditions: `trained_on` (default: `TRAINING_SETS`), the datasets measured on a session's test part
            instead of all images; `session`; `windows` of unseen datasets, ``even`` or ``public``: random
            ones for `RANDOM_WINDOWS` (see `Profile.unseen_windows`), and their `seed` (the draw differs from
            that of the public loaders, which depends on the number of reading processes); other values that
            identify the check, such as a checksum of the weights.
        show: called with a line about each dataset.
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
                show(f"{name}: already measured")
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
    """Compare the results of checked weights with the published numbers, by row name.

    The result is the `rows` argument of `paper_tables.with_ours`.
    """
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
    """Return the folder for the results of a checkpoint, below the folder of a profile's runs."""
    return Path(root) / "check" / Path(checkpoint).stem


def read_checks(root: str | Path) -> list[Check]:
    """Read all saved checks, sorted by name."""
    return [_read(path.parent) for path in sorted(Path(root).glob("check/*/check.json"))]


def _read(folder: Path) -> Check:
    conditions = json.loads((folder / "check.json").read_text(encoding="utf-8"))
    results = pd.read_csv(folder / "results.csv", keep_default_na=False, na_values={"value": [""]})
    return Check(folder.name, conditions, results, conditions.pop("reasons"))


class Beside(NamedTuple):
    """A table of the paper with our results below.

    Attributes:
        text: from `paper_tables.with_ours`.
        left_out: a sentence with the numbers of the omitted rows; see `paper_tables.mostly_known`.
        compared: every published number of LIQE and ours.
    """

    text: pd.DataFrame
    left_out: str
    compared: pd.DataFrame


def within_set(runs: Sequence[FinishedRun], checks: Sequence[Check]) -> Beside:
    """Make the paper's table of its six datasets, with rows for checked weights and for our runs.

    Args:
        runs: the runs of profile `paper`; may be empty.
    """

    def why_not(name: str) -> str:
        reason = reason_unavailable(name) or "its images are available"
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
    """Make a table of unseen datasets, with rows for checked weights and for our runs.

    Args:
        protocol: ``unseen``, or ``aigc`` for generated images.
        compared: our results and the published numbers, as `10_paper_tables` saves them. A dataset without a
            published number has a column if ours was measured.
    """
    published = load_published()
    known = published[published["protocol"] == protocol]
    names = list(dict.fromkeys(known["dataset"]))
    if protocol == UNSEEN:
        names += list(compared.loc[compared["published"].isna() & compared["ours"].notna(), "dataset"])
    table, left_out = paper_tables.mostly_known(paper_tables.method_table(known, names, ["SRCC"]))
    ours = rows(checks, known, UNSEEN) | {"ours": compared}
    return Beside(paper_tables.with_ours(table, ours), left_out, compared)
