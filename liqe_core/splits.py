"""Splits of our own: for sets that come without one, or with one that near-duplicates cross."""

from __future__ import annotations

import numpy as np
import pandas as pd

from liqe_core.labels import PARTS, SESSION_COLUMNS


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
