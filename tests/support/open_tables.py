"""The answers that `studies.open_benchmark` keeps, and small tables in the place of its own, by its code."""

from pathlib import Path

import numpy as np
import pandas as pd

from liqe_core.files import write_csv
from liqe_core.prompts import PromptGrid
from liqe_core.studies import open_benchmark as study
from liqe_core.studies import open_tables


def kept_answers() -> pd.DataFrame:
    """What ``liqe-tiny``, as it is shipped, says of every test image."""
    return pd.read_csv(study.KEPT / "liqe-tiny.csv", dtype={"image": str}, low_memory=False)


def write_open_tables(folder: Path, seed: int = 0) -> None:
    """``liqe-tiny.csv``, ``arms.csv``, ``runs.csv``, ``differences.csv`` and ``levels.csv``.

    The arms know more of quality the more tasks they learn, by less than would show in so few images.
    """
    rng = np.random.default_rng(seed)
    sets = (("biq2021", 150, 0, 1), ("hevc", 100, 1, 5), ("hevc as shown", 100, 1, 5))
    true = pd.concat([_labels(*fields, rng) for fields in sets])
    parts = [_labels("tid2013-part", 20, 0, 9, rng).assign(reference=name) for name in ("i01", "i02", "i03")]
    for part, name in zip(parts, "abc", strict=True):
        part["image"] = name + part["image"]
    made = _labels("open-distorted", 60, 0, 1, rng).assign(mos=np.nan)
    grid = PromptGrid()
    made["true_distortion"] = rng.choice(grid.names("distortion")[:4], 60)
    made["scenes"] = rng.choice(["animal", "plant;landscape", ""], 60)
    true = pd.concat([true, *parts, made], ignore_index=True)
    names = [arm.name for arm in study.ARMS]
    predicted = pd.concat(
        [_answers(true, arm, s, 0.3 - 0.01 * k, rng) for k, arm in enumerate(names) for s in (1, 2)]
    )

    first = predicted[predicted["seed"] == 1]
    wide = first.pivot(index=["dataset", "image"], columns="arm", values="quality").reset_index()
    scored = true.loc[true["mos"].notna(), ["dataset", "image", "mos", "near_duplicate"]]
    write_csv(folder / "arms.csv", scored.merge(wide, on=["dataset", "image"]))
    judged = true[true["dataset"].isin(["biq2021", "open-distorted"])]
    methods = first.groupby("arm")
    for name, table in {
        "runs": open_tables.run_table(predicted, true),
        "differences": open_tables.difference_table(predicted, judged, [("Q+S+D", "Q"), ("heads", "Q")]),
        "levels": open_tables.level_table({arm: table for arm, table in methods if "Q" in arm}, judged),
    }.items():
        both = pd.concat([table.assign(split=split) for split in study.SPLITS], ignore_index=True)
        write_csv(folder / f"{name}.csv", both)
    tiny = predicted[(predicted["arm"] == "Q+S+D") & (predicted["seed"] == 1)].drop(columns=["arm", "seed"])
    write_csv(folder / "liqe-tiny.csv", open_tables.with_labels(tiny, true))


def _labels(name: str, count: int, low: float, high: float, rng: np.random.Generator) -> pd.DataFrame:
    table = pd.DataFrame({"dataset": name, "image": [f"{i:03}.jpg" for i in range(count)]})
    table["mos"] = rng.uniform(low, high, count).round(4)
    more = {"true_distortion": None, "scenes": "", "reference": None}
    return table.assign(**more, near_duplicate=(np.arange(count) < 10) & (name == "biq2021"))


def _answers(true: pd.DataFrame, arm: str, seed: int, noise: float, rng: np.random.Generator) -> pd.DataFrame:
    """Predictions on 1..5, from each set's scores and noise."""
    low, high = (true.groupby("dataset")["mos"].transform(end) for end in ("min", "max"))
    known = ((true["mos"] - low) / (high - low)).fillna(0.5) + noise * rng.normal(size=len(true))
    table = true[["dataset", "image"]].assign(quality=(1 + 4 * known.clip(0, 1)).round(4))
    grid = PromptGrid()
    for axis in ("distortion", "scene"):
        words = grid.names(axis)[:4] if axis == "distortion" else ["animal", "plant", "plant;landscape"]
        table[axis] = rng.choice(words, len(true)) if axis[0].upper() in arm else None
    return table.assign(arm=arm, seed=seed)
