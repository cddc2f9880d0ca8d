"""Splits of our own: for sets that come without one, or with one that near-duplicates cross."""

from __future__ import annotations

import numpy as np
import pandas as pd

from liqe_core.data.manifests import SESSIONS

#: The parts of a split, and the columns of a label table that name the part of each picture.
PARTS = ("train", "val", "test")
SESSION_COLUMNS = tuple(f"session_{k}" for k in range(1, SESSIONS + 1))


def random_sessions(table: pd.DataFrame, seed: int = 0, fractions=(0.7, 0.1, 0.2)) -> pd.DataFrame:
    """A copy with ten new random splits, for a set that comes without.

    Pictures of one reference stay together; a picture without reference stands for itself.

    Args:
        seed: the same seed gives the same splits.
        fractions: shares of train, val and test, each of the references.
    """
    if len(fractions) != 3 or min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-9:
        raise ValueError(f"fractions {fractions}: give three shares from 0 that sum to 1")
    table = table.copy()
    groups, names = pd.factorize(table["reference"].fillna(table["image"]))
    ends = np.round(np.cumsum(fractions) * len(names)).astype(int)
    for k, session in enumerate(SESSION_COLUMNS):
        order = np.random.default_rng([seed, k]).permutation(len(names))
        part = np.empty(len(names), dtype=object)
        for label, group in zip(PARTS, np.split(order, ends[:-1]), strict=True):
            part[group] = label
        table[session] = part[groups]
    return table


def with_validation(table: pd.DataFrame, fraction: float = 0.1, seed: int = 0) -> pd.DataFrame:
    """A copy with ten sessions made from a public split that has no val part.

    The public test part is the test part of every session; of the public training part, another random share
    is held back for validation each time. Pictures of one reference stay together.

    Args:
        fraction: share of the training part, by references.

    Raises:
        ValueError: session 1 has no training part.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"fraction is {fraction}: give a number between 0 and 1")
    training = (table["session_1"] == "train").to_numpy()
    if not training.any():
        raise ValueError("session_1 has no training part to hold something back from")
    table = table.copy()
    groups, names = pd.factorize(table["reference"].fillna(table["image"])[training])
    public = table["session_1"].to_numpy(dtype=object)
    for k, session in enumerate(SESSION_COLUMNS):
        order = np.random.default_rng([seed, k]).permutation(len(names))
        held = np.isin(groups, order[: max(1, round(fraction * len(names)))])
        parts = public.copy()
        parts[training] = np.where(held, "val", "train")
        table[session] = parts
    return table


def by_neighbours(
    table: pd.DataFrame, run: int = 50, seed: int = 0, fractions=(0.75, 1 / 12, 1 / 6)
) -> pd.DataFrame:
    """A copy with ten random splits in which pictures with neighbouring numbers stay together.

    Where pictures were numbered as they were gathered, those of one photographer, place or album are
    neighbours; a split that parts them asks a model for what it has nearly seen.

    Args:
        table: its images' names have a number, the last digits in them (``ss01 (17).jpg``).
        run: how many numbers in a row stay together.
        seed, fractions: see `random_sessions`; BIQ2021's public sizes.

    Raises:
        ValueError: a name without a number; names it.
    """
    found = table["image"].str.extract(r"^(.*?)(\d+)\D*$")
    if found[1].isna().any():
        name = table["image"][found[1].isna()].iloc[0]
        raise ValueError(f"{name!r} has no number to tell its neighbours by")
    together = found[0] + (found[1].astype(int) // run).astype(str)
    return random_sessions(table.assign(reference=together), seed, fractions).assign(
        reference=table["reference"]
    )


def without_near_duplicates(table: pd.DataFrame, pairs: pd.DataFrame, session: int = 1) -> pd.DataFrame:
    """A copy whose test (and val) part lacks the pictures that the training part also has.

    They belong to no part of that session then; the training part stays as it is, so that results on both
    test parts can be compared.

    Args:
        pairs: from `near_duplicates`.
    """
    table = table.copy()
    table.loc[table["image"].isin(pairs["image"]), f"session_{session}"] = None
    return table
