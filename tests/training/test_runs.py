"""A run folder is of one run; what training never used may go from its table."""

import dataclasses

import numpy as np
import pytest
from support.training import settings

from liqe_core.training.runs import RunFolderError, claimed, describe


def without(pictures, rows):
    keep = np.setdiff1d(np.arange(len(pictures)), rows)
    table = pictures.table.iloc[keep].reset_index(drop=True)
    return dataclasses.replace(pictures, table=table, pictures=[pictures.pictures[i] for i in keep])


def take(folder, pictures):
    with claimed(folder, describe(settings(), [pictures])):
        pass


def test_rows_that_training_never_used_may_go(pictures, tmp_path):
    take(tmp_path, pictures)
    test = pictures.part(1, "test")
    fewer = without(pictures, test[:2])
    take(tmp_path, fewer)
    take(tmp_path, pictures)  # and come back
    with pytest.raises(RunFolderError, match="settings"):
        take(tmp_path, without(pictures, [*test[:2], pictures.part(1, "train")[3]]))
    with pytest.raises(RunFolderError):
        take(tmp_path, without(pictures, pictures.part(1, "val")[:1]))


def test_what_training_uses_may_not_change(pictures, tmp_path):
    take(tmp_path, pictures)
    for part in ("train", "val"):
        changed = dataclasses.replace(pictures, table=pictures.table.copy())
        changed.table.loc[int(pictures.part(1, part)[1]), "mos"] += 1
        with pytest.raises(RunFolderError, match="labels_sha256"):
            take(tmp_path, changed)


def test_a_finished_run_was_tested_on_what_it_names(pictures, tmp_path):
    take(tmp_path, without(pictures, pictures.part(1, "test")[:1]))
    take(tmp_path, pictures)
    (tmp_path / "results.csv").write_text("session\n1\n")
    take(tmp_path, pictures)
    with pytest.raises(RunFolderError):
        take(tmp_path, without(pictures, pictures.part(1, "test")[:1]))
