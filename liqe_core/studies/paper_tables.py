"""The paper's tables with our results: published numbers, numbers from run folders, and reasons for gaps."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pandas as pd
import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from liqe_core.data.manifests import manifest_dir
from liqe_core.studies.finished import FinishedRun

_CELL = ["dataset", "metric"]

#: The text of a cell without a number in any accessible source.
NO_SOURCE = "no source"


METRICS = {"SRCC": (-1, 1), "PLCC": (-1, 1), "KRCC": (-1, 1), "RMSE": (0, math.inf), "accuracy": (0, 1)}
_SAME = ["method", "dataset", "protocol", "metric", "training"]  # identify a number
_Text = Annotated[str, Field(min_length=1, strict=True)]


class Source(BaseModel, extra="forbid"):
    """A source of numbers.

    `kind` is the authors, another paper's table, or an indirect source; `openable` says whether the source is
    publicly accessible.
    """

    kind: Literal["primary", "quoted", "notes"]
    title: _Text
    url: str = ""
    openable: bool = True


class Entry(BaseModel, extra="forbid", strict=True):
    """A published number; `training` and `differs` describe deviations from the paper's usual protocol."""

    method: _Text
    dataset: _Text
    protocol: Literal["within-set", "unseen", "aigc", "ablation"]
    metric: Literal["SRCC", "PLCC", "KRCC", "RMSE", "accuracy"]
    value: float
    source: _Text
    training: str = ""
    differs: str = ""
    note: str = ""

    @model_validator(mode="after")
    def _check_range(self) -> Entry:
        low, high = METRICS[self.metric]
        if not low <= self.value <= high:
            raise ValueError(f"value {self.value} is not a valid {self.metric}: give {low} to {high}")
        return self


class _Published(BaseModel, extra="forbid"):
    sources: dict[str, Source]
    entries: list[Entry]


def load_published(folder: str | os.PathLike | None = None) -> pd.DataFrame:
    """Read and validate the published numbers of ``published.yaml``.

    Args:
        folder: the folder of the file; default: see `manifest_dir`.

    Returns:
        A row for each number, in the file's order: the fields of `Entry` (`dataset` is the name of its
        manifest if it has one), and `kind`, `title` and `url` of its `Source`.

    Raises:
        FileNotFoundError: the file is missing. ValueError: an entry or a source is invalid; the message names
            the file, the entry (counted from 1) and the field.
    """
    path = Path(folder or manifest_dir()) / "published.yaml"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: set LIQE_MANIFESTS to the folder that holds it")
    try:
        content = _Published.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not valid YAML: {error}") from error
    except ValidationError as error:
        fault = error.errors()[0]
        place = " ".join(str(part + 1 if isinstance(part, int) else part) for part in fault["loc"])
        raise ValueError(f"{path}, {place}: {fault['msg']} (got {fault['input']!r})") from None
    table = pd.DataFrame([entry.model_dump() for entry in content.entries], columns=list(Entry.model_fields))
    sources = pd.DataFrame([source.model_dump() | {"source": key} for key, source in content.sources.items()])
    if len(unknown := table[~table["source"].isin(list(content.sources))]):
        number, name = unknown.index[0] + 1, unknown["source"].iloc[0]
        raise ValueError(f"{path}, entries {number}: source {name!r} is not among the file's sources")
    if len(twice := table[table.duplicated([*_SAME, "source", "value"])]):
        number, name = twice.index[0] + 1, twice["source"].iloc[0]
        raise ValueError(f"{path}, entries {number}: duplicate of another entry from {name}")
    for same, group in table.groupby(_SAME, sort=False):
        if group["value"].nunique() > 1 and not group["differs"].any():
            numbers = ", ".join(str(i + 1) for i in group.index)
            problem = f"different values for {' '.join(same).strip()}"
            raise ValueError(f"{path}, entries {numbers}: {problem}; describe the difference in `differs`")
    return table.merge(sources, on="source", how="left") if len(table) else table


def paper_ablation(published: pd.DataFrame, variants: Sequence[str]) -> pd.DataFrame:
    """Tabulate the paper's ablation, a row for each variant.

    Returns:
        `level`, `paper` (mean SRCC over the six datasets; NaN if no available source states it), `source`,
        `reason`.
    """
    known = published[published["protocol"] == "ablation"].drop_duplicates("method").set_index("method")
    table = known.reindex([f"LIQE ({variant.replace('+', ' + ')})" for variant in variants])
    table = table.rename(columns={"value": "paper"}).assign(level=list(variants))
    reasons = np.where(table["paper"].isna(), "no source states the paper's value", "")
    table = table.assign(source=table["source"].fillna(""), reason=reasons)
    return table[["level", "paper", "source", "reason"]].reset_index(drop=True)


def ours_within(runs: Iterable[FinishedRun], criterion: str = "quality") -> pd.DataFrame:
    """Aggregate our test results over sessions.

    Args:
        runs: runs with the same recipe; several seeds of a session are averaged first.
        criterion: the checkpoint to use: ``quality``, which the public benchmark reads, or another of
            `watch.CRITERIA`; a run without it uses ``quality``.

    Returns:
        A row for each dataset and metric, with `median`, `mean`, `spread` (standard deviation with n - 1; the
        public benchmark divides by n) and `sessions`.
    """
    names = {"srcc": "SRCC", "plcc": "PLCC", "scene_accuracy": "scene accuracy"}
    names |= {"distortion_accuracy": "distortion accuracy"}
    frames = []
    for run in runs:
        chosen = criterion if criterion in set(run.results["checkpoint"]) else "quality"
        results = run.results[run.results["checkpoint"] == chosen].rename(columns=names)
        measured = [name for name in names.values() if name in results]
        long = results.melt(["dataset"], measured, var_name="metric", value_name="value")
        frames.append(long.assign(session=run.settings.session))
    columns = [*_CELL, "median", "mean", "spread", "sessions"]
    if not frames:
        return pd.DataFrame(columns=columns)
    by_session = pd.concat(frames).groupby([*_CELL, "session"], sort=False)["value"].mean().dropna()
    table = by_session.groupby(_CELL, sort=False).agg(["median", "mean", "std", "count"]).reset_index()
    return table.set_axis(columns, axis=1)


def beside(
    published: pd.DataFrame, ours: pd.DataFrame, why_not: Callable[[str], str], value: str = "median"
) -> pd.DataFrame:
    """Join every published number of LIQE with ours.

    If sources disagree, each published value has its own row.

    Args:
        published: rows of `load_published` of one protocol.
        ours: `dataset`, `metric` and the column `value`.
        why_not: returns for a dataset why our number is missing, as "SUMMARY: DETAILS".

    Returns:
        `dataset`, `metric`, `published`, `source`, `training`, `differs`, `note`, `ours`, `distance` (ours
        minus published; NaN if the published model was trained differently or its training is not stated),
        `reason` ("" if our number exists).
    """
    columns = [*_CELL, "value", "source", "training", "differs", "note"]
    rows = published.loc[published["method"] == "LIQE", columns]
    rows = rows.rename(columns={"value": "published"})
    own = ours[[*_CELL, value]].rename(columns={value: "ours"})
    table = rows.merge(own.astype({"ours": float}), on=_CELL, how="left")
    table["distance"] = (table["ours"] - table["published"]).where(table["training"] == "")
    table["reason"] = table["dataset"].map(why_not).where(table["ours"].isna(), "")
    return table


def method_table(published: pd.DataFrame, datasets: Sequence[str], metrics: Sequence[str]) -> pd.DataFrame:
    """Make a text table with a row for each method and training, and a column for each dataset and metric.

    If sources disagree, the cell lists all values, one per line. A cell without a value is `NO_SOURCE`.
    """
    cells = published[published["metric"].isin(metrics) & published["dataset"].isin(datasets)]
    cells = cells.assign(row=cells["method"] + cells["training"].map(_trained))
    # LIQE comes last, as in papers.
    rows = list(dict.fromkeys(cells["row"]))
    rows.sort(key=lambda row: (row.startswith("LIQE"), row == "LIQE"))
    columns = [f"{dataset}\n{metric}" for dataset in datasets for metric in metrics]
    table = pd.DataFrame(NO_SOURCE, index=rows, columns=columns)
    for (row, dataset, metric), group in cells.groupby(["row", "dataset", "metric"], sort=False):
        values = dict.fromkeys(f"{v:.3f}" for v in group["value"])
        table.at[row, f"{dataset}\n{metric}"] = "\n".join(values)
    return table


def mostly_known(table: pd.DataFrame, least: float = 0.5) -> tuple[pd.DataFrame, str]:
    """Split a `method_table` into its mostly complete rows and a sentence with the numbers of the others.

    Args:
        least: the smallest share of cells with a source, over columns that have any; rows below are removed.

    Returns:
        The complete rows, and the sentence; "" if no row was removed.
    """
    sourced = table != NO_SOURCE
    enough = sourced.loc[:, sourced.any()].mean(axis=1) >= least
    known = [
        f"{' '.join(row.split())} on {column.replace(chr(10), ', ')}: {' or '.join(cell.split())}"
        for row, cells in table[~enough].iterrows()
        for column, cell in cells[cells != NO_SOURCE].items()
    ]
    return table[enough], f"Besides, sources give: {'; '.join(known)}." if known else ""


def _trained(training: str) -> str:
    """Return a suffix for a method's name if it was not trained as in its paper."""
    if not training:
        return ""
    return "\n(training not stated)" if training == "not stated" else f"\n({training} alone)"


def with_ours(table: pd.DataFrame, rows: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Append rows with our numbers to a table.

    Args:
        table: from `method_table`.
        rows: results of `beside` by row name.

    Returns:
        The table with all rows that have a number; below each number stands the difference to the nearest
        published one. A cell without a number has the summary of its reason.
    """
    rows = {name: row for name, row in rows.items() if row["ours"].notna().any()}
    text = table.reindex(pd.Index([*table.index, *rows], name="method"))
    for name, compared in rows.items():
        text.loc[name] = "no metric"
        for (dataset, metric), group in compared.groupby(_CELL, sort=False):
            if (column := f"{dataset}\n{metric}") in text:
                text.at[name, column] = _cell(group)
    return text


def _cell(group: pd.DataFrame) -> str:
    """Return the text of a cell of ours; several sources may state a published value."""
    if group["ours"].isna().all():
        return group["reason"].iloc[0].split(":")[0]
    partial = f"\n{group['reason'].iloc[0]}".rstrip()
    if group["distance"].isna().all():  # no comparable published value
        return f"{group['ours'].iloc[0]:.3f}{partial}"
    nearest = group.loc[group["distance"].abs().idxmin()]
    return f"{nearest['ours']:.3f}\n({nearest['distance']:+.3f}){partial}"


def disagreements(published: pd.DataFrame) -> pd.DataFrame:
    """List all numbers for which sources state different values, with their sources and differences."""
    same = ["method", "dataset", "protocol", "metric"]
    several = published.groupby(same)["value"].transform("nunique") > 1
    columns = [*same, "value", "source", "training", "differs", "note", "title"]
    return published.loc[several, columns].sort_values(same, kind="stable", ignore_index=True)
