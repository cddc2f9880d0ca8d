"""Weights that somebody else trained, on what they did not see: the first line of the paper's tables, with no
training. Of the six training sets it is a session's test part, of every other set all pictures. Their rows,
and those of our own runs, stand below the published ones in `within_set` and `unseen_sets`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from liqe_core.data.labelled import LabelledPictures
from liqe_core.data.labels import read_labels
from liqe_core.data.manifests import TRAINING_SETS, load_manifest
from liqe_core.data.verification import status
from liqe_core.evaluation.measuring import measure
from liqe_core.files import write_csv, write_json
from liqe_core.model import LIQE
from liqe_core.studies import paper_tables
from liqe_core.studies.finished import FinishedRun
from liqe_core.studies.paper_tables import beside
from liqe_core.studies.published import load_published
from liqe_core.studies.unseen import NAMES, measure_unseen, what_is_missing

WITHIN, UNSEEN = "within-set", "unseen"
_COLUMNS = ["protocol", "dataset", "metric", "value", "pictures", "left_out", "told"]


class Check(NamedTuple):
    """What was measured of one file of weights.

    Attributes:
        name: of the weights. said: what it was measured with: `checkpoint`, `sha256`, `session`, ...
        results: a row a set and metric: `protocol` (``within-set`` or ``unseen``), `dataset`, `metric`,
            `value`, `pictures`, `left_out`, `told`, as `measure_unseen` has them.
        reasons: why a set has none: a few words, a colon, the whole.
    """

    name: str
    said: dict[str, Any]
    results: pd.DataFrame
    reasons: dict[str, str]

    def of(self, protocol: str) -> pd.DataFrame:
        """The results of one protocol."""
        return self.results[self.results["protocol"] == protocol]


def plan(names: Sequence[str], session: int) -> pd.DataFrame:
    """What there is to measure; opens no picture and fetches nothing.

    Returns:
        A row a set: `dataset`, `protocol`, `pictures`, and `missing`, what has to be done before it can be
        measured, or "".
    """
    rows = []
    for name in names:
        protocol = WITHIN if name in TRAINING_SETS else UNSEEN
        missing, pictures = what_is_missing(name), 0
        if not missing and protocol == WITHIN:
            pictures = int((read_labels(name)[f"session_{session}"] == "test").sum())
        elif not missing:
            pictures = status(load_manifest(name)).found
        rows.append((name, protocol, pictures, missing))
    return pd.DataFrame(rows, columns=["dataset", "protocol", "pictures", "missing"])


def check(
    model: LIQE,
    names: Sequence[str],
    get: Callable[[str], LabelledPictures],
    folder: Path,
    said: dict[str, Any],
    windows: str = "public",
    tell: Callable[[str], None] = print,
) -> Check:
    """Measure a model on each set, and write ``results.csv`` and ``check.json`` anew after every one.

    A folder that holds a part of the same check is gone on with: a set that has results there is not measured
    again, whatever else `names` has.

    Args:
        names: of the data sets.
        get: see `measure_unseen`.
        folder: where to write; its name is that of the weights.
        said: of the weights; `session` says whose test parts, `seed` that of random windows.
        windows: of unseen sets, see `measure_unseen`.
        tell: given a line about each set.
    """
    done = Check(folder.name, said, pd.DataFrame(columns=_COLUMNS), {})
    if (folder / "check.json").is_file() and (earlier := _read(folder)).said == said:
        done = earlier._replace(reasons={})
    for name in names:
        if name in set(done.results["dataset"]):
            tell(f"{name}: measured already")
            continue
        if name in TRAINING_SETS:
            protocol, (table, reasons) = WITHIN, measure_within(model, name, get, said["session"])
        else:
            protocol = UNSEEN
            table, reasons = measure_unseen(model, [name], get, windows=windows, seed=said["seed"])
        frames = [f for f in (done.results, table.assign(protocol=protocol)) if len(f)]
        results = pd.concat(frames, ignore_index=True)[_COLUMNS] if frames else done.results
        done = done._replace(results=results, reasons=done.reasons | reasons)
        write_csv(folder / "results.csv", done.results)
        write_json(folder / "check.json", said | {"reasons": done.reasons})
        value = table.loc[table["metric"] == "SRCC", "value"]
        tell(f"{name}: {f'SRCC {value.iloc[0]:.4f}' if len(value) else reasons[name]}")
    return done


def measure_within(
    model: LIQE, name: str, get: Callable[[str], LabelledPictures], session: int
) -> tuple[pd.DataFrame, dict[str, str]]:
    """Test a model on a session's test part; arguments and result as `measure_unseen`'s, with accuracies."""
    if missing := what_is_missing(name):
        return pd.DataFrame(columns=_COLUMNS), {name: missing}
    try:
        (row,) = measure(model, [get(name)], session, "test").to_dict("records")
    except (ValueError, OSError) as error:  # damaged: the other sets still count
        return pd.DataFrame(columns=_COLUMNS), {name: f"no result: {' '.join(str(error).split())}"}
    metrics = NAMES | {f"{axis}_accuracy": f"{axis} accuracy" for axis in ("scene", "distortion")}
    shared = {"dataset": name, "pictures": row["pictures"], "left_out": 0, "told": ""}
    return pd.DataFrame([shared | {"metric": m, "value": row[k]} for k, m in metrics.items() if k in row]), {}


def rows(checks: Iterable[Check], published: pd.DataFrame, protocol: str) -> dict[str, pd.DataFrame]:
    """Rows of checked weights for `paper_tables.with_ours`, by their names: what was measured, beside what
    is published."""
    table = {}
    for one in checks:

        def why_not(name: str, reasons: dict[str, str] = one.reasons) -> str:
            return reasons.get(name, "no metric: not measured")

        own = one.of(protocol).rename(columns={"value": "ours"})
        compared = beside(published, own, why_not, value="ours")
        alone = own[~own["dataset"].isin(compared["dataset"])][["dataset", "metric", "ours"]]
        part = f", session {one.said['session']}" if protocol == WITHIN else ""
        table[f"{one.name}{part}"] = pd.concat([compared, alone.assign(reason="")], ignore_index=True)
    return table


def check_folder(root: str | Path, checkpoint: str) -> Path:
    """Where what was measured of weights is kept, below the folder of a profile's runs."""
    return Path(root) / "check" / Path(checkpoint).stem


def read_checks(root: str | Path) -> list[Check]:
    """Whatever was measured so far, by name."""
    return [_read(path.parent) for path in sorted(Path(root).glob("check/*/check.json"))]


def _read(folder: Path) -> Check:
    said = json.loads((folder / "check.json").read_text(encoding="utf-8"))
    results = pd.read_csv(folder / "results.csv", keep_default_na=False, na_values={"value": [""]})
    return Check(folder.name, said, results, said.pop("reasons"))


class Beside(NamedTuple):
    """A table of the paper with ours below.

    Attributes:
        text, distance: as `figures.paper_tables.shaded_table` takes them.
        left_out: what the rows that were left out have, as a sentence; see `paper_tables.mostly_known`.
        compared: every published number of LIQE with ours.
    """

    text: pd.DataFrame
    distance: pd.DataFrame
    left_out: str
    compared: pd.DataFrame


def within_set(runs: Sequence[FinishedRun], checks: Sequence[Check]) -> Beside:
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
    within = published[published["protocol"] == WITHIN]
    compared, averaged = (
        beside(within, paper_tables.ours_within(runs, kept), why_not) for kept in ("quality", "average")
    )
    checked = rows(checks, within, WITHIN)
    sessions = len({run.repeat[0] for run in runs})
    ours = {**checked, f"ours ({sessions} sessions)": compared, "ours, best by average": averaged}
    known = within[paper_tables.widely_known(within)]
    table = paper_tables.method_table(known, TRAINING_SETS, ["SRCC", "PLCC"])
    table, left_out = paper_tables.mostly_known(table)
    values = {name: row["ours"].to_numpy() for name, row in checked.items()}
    compared = compared.assign(best_by_average=averaged["ours"], **values)
    return Beside(*paper_tables.with_ours(table, ours), left_out, compared)


def third_hand() -> tuple[pd.DataFrame, pd.DataFrame]:
    """The methods that `within_set` leaves out, for having a source for one set alone: text, and distances
    that are all NaN."""
    published = load_published()
    within = published[published["protocol"] == WITHIN]
    narrow = within[~paper_tables.widely_known(within)]
    table = paper_tables.method_table(narrow, list(dict.fromkeys(narrow["dataset"])), ["SRCC", "PLCC"])
    return paper_tables.with_ours(table, {})


def unseen_sets(protocol: str, compared: pd.DataFrame, checks: Sequence[Check]) -> Beside:
    """A table of sets that were never trained on, with the rows of checked weights and ours below.

    Args:
        protocol: ``unseen``, or ``aigc`` for generated pictures.
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
    return Beside(*paper_tables.with_ours(table, ours), left_out, compared)
