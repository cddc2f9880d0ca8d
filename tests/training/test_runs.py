"""A run folder belongs to one run; labels that training never used may be removed."""

import dataclasses

import numpy as np
import pytest
from support.training import settings

from liqe_core.training.runs import RunFolderError, claimed, describe


def without(images, rows):
    keep = np.setdiff1d(np.arange(len(images)), rows)
    table = images.table.iloc[keep].reset_index(drop=True)
    return dataclasses.replace(images, table=table, images=[images.images[i] for i in keep])


def take(folder, images):
    with claimed(folder, describe(settings(), [images])):
        pass


def test_rows_that_training_never_used_may_go(images, tmp_path):
    take(tmp_path, images)
    test = images.part(1, "test")
    fewer = without(images, test[:2])
    take(tmp_path, fewer)
    take(tmp_path, images)  # and come back
    with pytest.raises(RunFolderError, match="settings"):
        take(tmp_path, without(images, [*test[:2], images.part(1, "train")[3]]))
    with pytest.raises(RunFolderError):
        take(tmp_path, without(images, images.part(1, "val")[:1]))


def test_training_data_must_not_change(images, tmp_path):
    take(tmp_path, images)
    for part in ("train", "val"):
        changed = dataclasses.replace(images, table=images.table.copy())
        changed.table.loc[int(images.part(1, part)[1]), "mos"] += 1
        with pytest.raises(RunFolderError, match="labels_sha256"):
            take(tmp_path, changed)


def test_a_finished_run_names_its_test_images(images, tmp_path):
    take(tmp_path, without(images, images.part(1, "test")[:1]))
    take(tmp_path, images)
    (tmp_path / "results.csv").write_text("session\n1\n")
    take(tmp_path, images)
    with pytest.raises(RunFolderError):
        take(tmp_path, without(images, images.part(1, "test")[:1]))
