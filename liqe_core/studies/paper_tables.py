"""The paper's tables with ours beside: published numbers, our run folders, and why a cell is empty."""

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

#: What a cell says for which no source that could be opened has a number.
NO_SOURCE = "no source"


METRICS = {"SRCC": (-1, 1), "PLCC": (-1, 1), "KRCC": (-1, 1), "RMSE": (0, math.inf), "accuracy": (0, 1)}
_SAME = ["method", "dataset", "protocol", "metric", "training"]  # entries that claim the same number
_Text = Annotated[str, Field(min_length=1, strict=True)]


class Source(BaseModel, extra="forbid"):
    """Where numbers come from: `kind` is the authors', another paper's table, or a third hand; `openable`,
    whether others can open it."""

    kind: Literal["primary", "quoted", "notes"]
    title: _Text
    url: str = ""
    openable: bool = True


class Entry(BaseModel, extra="forbid", strict=True):
    """One published number; `training` and `differs` say how it is not the paper's usual one."""

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
            raise ValueError(f"value {self.value} is no {self.metric}: it lies from {low} to {high}")
        return self


class _Published(BaseModel, extra="forbid"):
    sources: dict[str, Source]
    entries: list[Entry]


def load_published(folder: str | os.PathLike | None = None) -> pd.DataFrame:
    """The published numbers of ``published.yaml``, checked: a row each, in the file's order.

    Args:
        folder: where the file is; default: see `manifest_dir`.

    Returns:
        The fields of `Entry`, `dataset` being the stem of its manifest where it has one, and `kind`, `title`
        and `url` of its `Source`.

    Raises:
        FileNotFoundError: no such file. ValueError: an entry or a source is not as it should be; the message
            names the file, the entry (counted from 1) and the field.
    """
    path = Path(folder or manifest_dir()) / "published.yaml"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: set LIQE_MANIFESTS to the folder that holds it")
    try:
        content = _Published.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is no YAML: {error}") from error
    except ValidationError as error:
        fault = error.errors()[0]
        place = " ".join(str(part + 1 if isinstance(part, int) else part) for part in fault["loc"])
        raise ValueError(f"{path}, {place}: {fault['msg']} (it is {fault['input']!r})") from None
    table = pd.DataFrame([entry.model_dump() for entry in content.entries], columns=list(Entry.model_fields))
    sources = pd.DataFrame([source.model_dump() | {"source": key} for key, source in content.sources.items()])
    if len(unknown := table[~table["source"].isin(list(content.sources))]):
        number, name = unknown.index[0] + 1, unknown["source"].iloc[0]
        raise ValueError(f"{path}, entries {number}: source {name!r} is not among the file's sources")
    if len(twice := table[table.duplicated([*_SAME, "source", "value"])]):
        number, name = twice.index[0] + 1, twice["source"].iloc[0]
        raise ValueError(f"{path}, entries {number}: {name} gives this number already")
    for same, group in table.groupby(_SAME, sort=False):
        if group["value"].nunique() > 1 and not group["differs"].any():
            numbers = ", ".join(str(i + 1) for i in group.index)
            problem = f"they disagree on {' '.join(same).strip()}"
            raise ValueError(f"{path}, entries {numbers}: {problem}; say in `differs` what differs")
    return table.merge(sources, on="source", how="left") if len(table) else table


def paper_ablation(published: pd.DataFrame, variants: Sequence[str]) -> pd.DataFrame:
    """The paper's ablation: a row a variant with `level`, `paper` (mean SRCC over the six sets, NaN where no
    source at hand gives it), `source` and `reason`."""
    known = published[published["protocol"] == "ablation"].drop_duplicates("method").set_index("method")
    table = known.reindex([f"LIQE ({variant.replace('+', ' + ')})" for variant in variants])
    table = table.rename(columns={"value": "paper"}).assign(level=list(variants))
    reasons = np.where(table["paper"].isna(), "no source at hand gives the paper's value", "")
    table = table.assign(source=table["source"].fillna(""), reason=reasons)
    return table[["level", "paper", "source", "reason"]].reset_index(drop=True)


def ours_within(runs: Iterable[FinishedRun], criterion: str = "quality") -> pd.DataFrame:
    """Our test results over sessions: a row a dataset and metric, with `median`, `mean`, `spread` (standard
    deviation, with n - 1; the public benchmark's has n) and `sessions`.

    Args:
        runs: of one recipe; several seeds of a session are averaged first.
        criterion: which kept checkpoint: ``quality``, which the public benchmark reads, or another of
            `watch.CRITERIA`; ``quality`` where a run has no other.
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
    """Every published number of LIQE with ours: a row a published value, so that sources that disagree both
    stay.

    Args:
        published: rows of `load_published`, of one protocol.
        ours: `dataset`, `metric` and the column `value`.
        why_not: from a dataset's name, why there is no number of ours: a few words, a colon, the whole.

    Returns:
        `dataset`, `metric`, `published`, `source`, `training`, `differs`, `note`, `ours`, `distance` (ours
        less published; NaN where that is of another training, or of one that is not stated), `reason` (""
        where ours is there).
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
    """Text: a row a method and training, a column a dataset and metric; values that sources disagree on
    stand under one another, and an empty cell says that no source has been opened for it."""
    cells = published[published["metric"].isin(metrics) & published["dataset"].isin(datasets)]
    cells = cells.assign(row=cells["method"] + cells["training"].map(_trained))
    # The method itself last, as papers print it.
    rows = list(dict.fromkeys(cells["row"]))
    rows.sort(key=lambda row: (row.startswith("LIQE"), row == "LIQE"))
    columns = [f"{dataset}\n{metric}" for dataset in datasets for metric in metrics]
    table = pd.DataFrame(NO_SOURCE, index=rows, columns=columns)
    for (row, dataset, metric), group in cells.groupby(["row", "dataset", "metric"], sort=False):
        values = dict.fromkeys(f"{v:.3f}" for v in group["value"])
        table.at[row, f"{dataset}\n{metric}"] = "\n".join(values)
    return table


def mostly_known(table: pd.DataFrame, least: float = 0.5) -> tuple[pd.DataFrame, str]:
    """Of a `method_table` the rows that have a source for at least this part of the columns (of those that
    have one at all), and what the others have, as a sentence: "" where there is no other."""
    sourced = table != NO_SOURCE
    enough = sourced.loc[:, sourced.any()].mean(axis=1) >= least
    known = [
        f"{' '.join(row.split())} on {column.replace(chr(10), ', ')}: {' or '.join(cell.split())}"
        for row, cells in table[~enough].iterrows()
        for column, cell in cells[cells != NO_SOURCE].items()
    ]
    return table[enough], f"Besides, sources give: {'; '.join(known)}." if known else ""


def _trained(training: str) -> str:
    """What to add to a method's name where it was not trained as its paper says."""
    if not training:
        return ""
    return "\n(training not stated)" if training == "not stated" else f"\n({training} alone)"


def with_ours(table: pd.DataFrame, rows: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """A table with our numbers as its last rows.

    Args:
        table: from `method_table`.
        rows: by the name of the row, what `beside` gave.

    Returns:
        The text with the rows added that hold a number; below each number the difference to the nearest
        published one. A missing number is the first words of its reason.
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
    """What a cell of ours says; several sources may give a value."""
    if group["ours"].isna().all():
        return group["reason"].iloc[0].split(":")[0]
    partial = f"\n{group['reason'].iloc[0]}".rstrip()
    if group["distance"].isna().all():  # nothing published to lie near to
        return f"{group['ours'].iloc[0]:.3f}{partial}"
    nearest = group.loc[group["distance"].abs().idxmin()]
    return f"{nearest['ours']:.3f}\n({nearest['distance']:+.3f}){partial}"


def disagreements(published: pd.DataFrame) -> pd.DataFrame:
    """Numbers for which sources give different values: all of them, each with its source and what differs."""
    same = ["method", "dataset", "protocol", "metric"]
    several = published.groupby(same)["value"].transform("nunique") > 1
    columns = [*same, "value", "source", "training", "differs", "note", "title"]
    return published.loc[several, columns].sort_values(same, kind="stable", ignore_index=True)
