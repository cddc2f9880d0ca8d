"""Published numbers to compare ours with: `data_manifests/published.yaml` as a table, every field checked."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pandas as pd
import yaml

from liqe_core.data.manifests import manifest_dir

PROTOCOLS = ("within-set", "unseen", "aigc", "ablation")
KINDS = ("primary", "quoted", "notes")  # of a source: the authors', another paper's table, a third hand
METRICS = {"SRCC": (-1, 1), "PLCC": (-1, 1), "KRCC": (-1, 1), "RMSE": (0, math.inf), "accuracy": (0, 1)}
_REQUIRED = ("method", "dataset", "protocol", "metric", "value", "source")
_OPTIONAL = ("training", "differs", "note")
_SAME = ["method", "dataset", "protocol", "metric", "training"]  # entries that claim the same number


def load_published(folder: str | os.PathLike | None = None) -> pd.DataFrame:
    """The published numbers, a row each, in the file's order.

    Args:
        folder: where `published.yaml` is; default: see `manifest_dir`.

    Returns:
        `method`, `dataset` (the stem of its manifest where it has one), `protocol` (one of `PROTOCOLS`),
        `metric` (one of `METRICS`), `value` (float), `source` (its key), `kind` (one of `KINDS`), `title`,
        `url` ("" where it has none), `training`, `differs`, `note` ("" where absent).

    Raises:
        FileNotFoundError: no such file. ValueError: an entry or a source is not as it should be; the message
            names the file and the entry.
    """
    path = Path(folder or manifest_dir()) / "published.yaml"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: set LIQE_MANIFESTS to the folder that holds it")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is no YAML: {error}") from error
    if not isinstance(content, dict) or set(content) != {"sources", "entries"}:
        raise ValueError(f"{path} must hold `sources` and `entries`, and nothing else")
    sources = content["sources"] or {}
    for key, source in sources.items():
        if problem := _source_problem(source):
            raise ValueError(f"{path}, source {key!r}: {problem}")
    rows = []
    for number, entry in enumerate(content["entries"] or [], 1):
        if problem := _entry_problem(entry, sources):
            raise ValueError(f"{path}, entry {number} ({entry}): {problem}")
        source = sources[entry["source"]]
        told = {key: source.get(key, "") for key in ("kind", "title", "url")}
        rows.append(dict.fromkeys(_OPTIONAL, "") | entry | told | {"value": float(entry["value"])})
    columns = [*_REQUIRED, "kind", "title", "url", *_OPTIONAL]
    table = pd.DataFrame(rows, columns=columns)
    if problem := _conflict(table):
        raise ValueError(f"{path}, {problem}")
    return table


def _source_problem(source) -> str:
    if not isinstance(source, dict) or not source.get("title"):
        return "no title"
    if source.get("kind") not in KINDS:
        return f"kind {source.get('kind')!r} is none of {', '.join(KINDS)}"
    unknown = set(source) - {"kind", "title", "url"}
    return f"unknown field {unknown.pop()!r}" if unknown else ""


def _entry_problem(entry, sources: dict) -> str:
    """What is wrong with an entry; "" when nothing is."""
    if not isinstance(entry, dict):
        return "not a mapping of fields"
    missing = [field for field in _REQUIRED if entry.get(field) in (None, "")]
    if missing:
        return f"no {', '.join(missing)}"
    unknown = set(entry) - {*_REQUIRED, *_OPTIONAL}
    if unknown:
        return f"unknown field {unknown.pop()!r}: an entry has {', '.join((*_REQUIRED, *_OPTIONAL))}"
    wordless = [field for field in entry if field != "value" and not isinstance(entry[field], str)]
    if wordless:
        return f"{wordless[0]} must be text: put it in quotes"
    if entry["protocol"] not in PROTOCOLS:
        return f"protocol {entry['protocol']!r} is none of {', '.join(PROTOCOLS)}"
    if entry["metric"] not in METRICS:
        return f"metric {entry['metric']!r} is none of {', '.join(METRICS)}"
    if entry["source"] not in sources:
        return f"source {entry['source']!r} is not among the file's sources ({', '.join(sources)})"
    value, (low, high) = entry["value"], METRICS[entry["metric"]]
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        return f"value {value!r} is no {entry['metric']}: it lies from {low} to {high}"
    return ""


def _conflict(table: pd.DataFrame) -> str:
    """Entries given twice by one source, or disagreeing without a word about it; "" when there are none."""
    twice = table[table.duplicated([*_SAME, "source", "value"])]
    if len(twice):
        entry = twice.index[0]
        return f"entry {entry + 1}: {table.at[entry, 'source']} gives this number already"
    for same, group in table.groupby(_SAME, sort=False):
        if group["value"].nunique() > 1 and not group["differs"].any():
            numbers = ", ".join(str(i + 1) for i in group.index)
            return (
                f"entries {numbers}: they disagree on {' '.join(same).strip()}; say in `differs` what differs"
            )
    return ""
