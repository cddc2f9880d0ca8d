"""The open benchmark: tables with known answers, and a complete run on a small dataset."""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support.data import own_set
from support.training import settings, small_set

from liqe_core.checkpoints import PACKAGED, read_checkpoint
from liqe_core.data.labelled import LabelledImages
from liqe_core.data.manifests import load_manifest
from liqe_core.data.splits import SESSION_COLUMNS
from liqe_core.prompts import DISTORTIONS, SCENES, VARIANTS
from liqe_core.studies import open_benchmark as study
from liqe_core.studies.open_tables import run_table
from liqe_core.training.prepare import labelled
from liqe_core.training.profiles import PROFILES, profile
from liqe_core.training.step import build_model


def test_shipped_files_are_small_enough():
    path, found = PACKAGED["liqe-tiny"], read_checkpoint("liqe-tiny")
    assert path.stat().st_size <= 16e6
    assert found.geometry["count"] == 15 and len(found.grid["quality"]) == 5
    assert found.recipe["session"] == profile("open").session
    assert not Path(found.recipe["pretrained"]).is_absolute()


def test_images_without_labels_are_excluded_from_training_only(tmp_path):
    dataset = small_set(tmp_path / "mini")
    table = dataset.table.assign(
        scenes=[() if row % 2 else scenes for row, scenes in dataset.table["scenes"].items()]
    )
    thinned = study.without_unlabelled(LabelledImages("mini", table, dataset.images)).table
    for session in SESSION_COLUMNS:
        trained = table[session] == "train"
        assert thinned[session][~trained].equals(table[session][~trained])
        assert (thinned[session] == "train").equals(trained & table["scenes"].map(bool))
    assert trained.any() and not trained.all()


def test_pseudo_labels_are_what_the_teacher_finds_likeliest(tmp_path):
    dataset = small_set(tmp_path / "mini")
    labels = [() if row % 2 else scenes for row, scenes in dataset.table["scenes"].items()]
    dataset = dataclasses.replace(dataset, table=dataset.table.assign(scenes=labels))
    teacher = build_model(settings())
    table = study.pseudo_labelled(dataset, teacher, settings()).table
    changed = ~dataset.table["scenes"].map(bool) & (table["session_1"] == "train")
    assert 0 < changed.sum() < len(table) and table[~changed].equals(dataset.table[~changed])
    rows = np.flatnonzero(changed)
    answers = study.predict(teacher, dataset, rows)
    for row, joint in zip(rows, answers, strict=True):
        scene, distortion = joint.sum(dim=(0, 2)).argmax(), joint.sum(dim=(0, 1)).argmax()
        assert table["scenes"][row] == (SCENES[scene],)
        assert table["distortion_group"][row] == DISTORTIONS[distortion]


def test_every_arm_is_a_profile_that_can_be():
    names = [arm.name for arm in study.ARMS]
    assert len(set(names)) == len(names)
    assert {name for pair in study.PAIRS for name in pair} <= set(names)
    made = [profile("open-frozen", seed=3, **arm.changes) for arm in study.ARMS]
    assert all(arm.seed == 3 and arm.name == "open-frozen" for arm in made)
    assert {arm.losses.control for arm in made} >= {"shuffled labels", "quality alone", "separate heads"}
    assert {tuple(arm.data.batch_sizes) for arm in made} == {("biq2021",)}, "labels are on the scored images"
    tuned = [arm for arm in made if not arm.model.keep_windows]
    assert [arm.model.variant for arm in tuned] == [VARIANTS[0], VARIANTS[-1], VARIANTS[-1]]
    for arms in (tuned, [arm for arm in made if arm.model.keep_windows]):
        assert len({(arm.data.batch_sizes["biq2021"], arm.steps.steps) for arm in arms}) == 1


def test_images_that_were_shown_at_another_size_are_tested_at_both(tmp_path, monkeypatch):
    manifest = own_set(tmp_path, count=10, width=60, height=40)
    manifest.path.write_text(manifest.path.read_text() + "shown: 2160\n")
    monkeypatch.setenv("LIQE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(study, "UNSEEN", ("holiday",))
    monkeypatch.setattr(study, "load_manifest", lambda _: load_manifest(manifest.path))
    path = str(manifest.path)
    monkeypatch.setattr(study, "labelled", lambda _, *more, **options: labelled(path, *more, **options))
    tests = study.test_sets(settings(resize_to=80), [], progress=False)
    assert [dataset.name for dataset in tests] == ["holiday", "holiday as shown"]
    assert all(len(study.test_rows(dataset)) == 10 for dataset in tests), "all images of both"
    assert list(study.labels(tests)["dataset"].unique()) == ["holiday", "holiday as shown"]


def test_the_study_on_a_toy_set_trains_each_arm_once(tmp_path, monkeypatch):
    toy = settings(architecture="LIQE-mini", batch_norm="frozen", freeze="image", keep_windows=True, epochs=1)
    monkeypatch.setenv("LIQE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(PROFILES, "toy", toy)
    monkeypatch.setattr(study, "UNSEEN", ())
    monkeypatch.setattr(study, "sets_for", lambda *_: [small_set(tmp_path / "mini")])
    arms = [arm for arm in study.ARMS if arm.name in ("Q", "Q+S+D", "heads")]
    changes = {"keep_windows": False, "unlocked_groups": 2, "measured": 2}
    arms.append(study.Arm("tuned", "its image tower trains", changes))
    arms.append(study.Arm("pseudo-labelled", "labels of a model", {}, teacher="Q+S+D"))
    monkeypatch.setitem(study.SPLITS, "public", [arm.name for arm in arms])
    study.train_and_predict(arms, (1,), tmp_path, "toy", progress=False)
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "toy").rglob("*")}
    study.train_and_predict(arms, (1,), tmp_path, "toy", progress=False)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "toy").rglob("*")} == written

    predicted = study.gathered(tmp_path, "toy")
    assert set(predicted["arm"]) == {arm.name for arm in arms} and predicted.groupby("arm").size().eq(6).all()
    results = run_table(predicted, study.labels([small_set(tmp_path / "mini")])).set_index("arm")
    for arm in ("Q", "Q+S+D", "heads"):
        kept = pd.read_csv(tmp_path / "toy" / "public" / f"{arm}-1" / "results.csv").set_index("checkpoint")
        assert results.loc[arm, "srcc"] == pytest.approx(kept.loc["quality", "srcc"])
        if arm == "Q":
            assert np.isnan(results.loc[arm, "distortion_accuracy"]), "that arm does not predict distortions"
        else:
            for measure in ("distortion_accuracy", "scene_accuracy"):
                assert results.loc[arm, measure] == pytest.approx(kept.loc["quality", measure])
