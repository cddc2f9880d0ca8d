"""A run: its files, interruption and resuming, rejected input."""

import dataclasses
import json
import math
import os
import random
import shutil
import signal
from functools import partial

import pandas as pd
import pytest
import torch
from support.interrupting import Job
from support.training import EQUAL, CrashError, assert_same_run, at_step, crash, settings, train_small

from liqe_core import LIQE
from liqe_core.crops import normalize
from liqe_core.data.labelled import LabelledImages
from liqe_core.evaluation.measuring import measure
from liqe_core.files import BusyError
from liqe_core.training import loop
from liqe_core.training.loop import Run, fit
from liqe_core.training.precision import Precision
from liqe_core.training.preflight import chosen
from liqe_core.training.resume import StateError
from liqe_core.training.runs import RunFolderError
from liqe_core.training.step import build_model
from liqe_core.training.watch import TrainingError


@pytest.fixture(scope="module")
def never_stopped(images, tmp_path_factory):
    """The folder of a run from the first step to the last in one go."""
    folder = tmp_path_factory.mktemp("never stopped")
    fit(settings(), [images], folder, progress=False)
    return folder


def test_a_run_writes_the_files_that_notebooks_read(never_stopped):
    folder = never_stopped
    steps, epochs = pd.read_csv(folder / "steps.csv"), pd.read_csv(folder / "epochs.csv")
    assert len(steps) == 9 and len(epochs) == 3
    losses = ["quality_loss", "scene_loss", "distortion_loss"]
    assert {"epoch", "step", "learning_rate", "gradient_norm", "skipped", *losses} <= set(steps)
    assert {"srcc", "scene_accuracy", "distortion_accuracy", "quality_weight", "seconds"} <= set(epochs)
    assert steps[losses].mean(axis=0)["scene_loss"] > 0
    assert epochs["scene_loss"][1] == pytest.approx(steps["scene_loss"][3:6].mean(), abs=1e-12)
    assert (epochs["skipped"] == 0).all()
    described = json.loads((folder / "settings.json").read_text())
    assert described["data"]["mini"]["images"] == 24
    assert described["machine"]["cores"] == os.cpu_count()
    assert len(described["code"]["commit"] or 40 * " ") == 40
    assert not list(folder.glob("state_*")) and not list(folder.glob(".*.part*"))


def test_a_finished_run_is_read_not_repeated(never_stopped, images, monkeypatch):
    folder = never_stopped
    before = {path: path.stat().st_mtime_ns for path in folder.glob("[!.]*")}
    monkeypatch.setattr(loop, "Run", None)
    results = fit(settings(), [images], folder, progress=False)
    pd.testing.assert_frame_equal(results, pd.read_csv(folder / "results.csv"), check_exact=True)
    assert before == {path: path.stat().st_mtime_ns for path in folder.glob("[!.]*")}


def test_a_run_that_is_killed_and_stopped_ends_with_the_same_numbers(never_stopped, tmp_path):
    """LIQE_KILLS=20 does so at length."""
    folder = tmp_path / "run"
    job = Job(partial(train_small, save_seconds=0), (tmp_path / "mini", folder), tmp_path / "log")

    for number, code, steps in [(signal.SIGKILL, -9, 2), (signal.SIGTERM, 143, 4)]:
        saved = (folder / f"state_{steps:07d}.pt").exists
        assert job.ended_by(number, saved) == code, (tmp_path / "log").read_text()
        assert not (folder / "results.csv").exists()
    kills = int(os.environ.get("LIQE_KILLS", "0"))
    codes = job.ended_at_random(random.Random(os.getpid()), kills, seconds=0.5)
    assert codes[-1] == 0, (tmp_path / "log").read_text()
    assert_same_run(folder, never_stopped)
    assert len(json.loads((folder / "settings.json").read_text())["starts"]) >= 3


@pytest.mark.parametrize("during, steps", [("step", 3), ("last measurement", 9)])
def test_an_interrupt_saves_the_state_and_changes_nothing(
    never_stopped, images, tmp_path, monkeypatch, interruptible, during, steps
):
    """By default a state is saved each five minutes, which is longer than this run takes."""

    def interrupt():
        os.kill(os.getpid(), signal.SIGINT)

    if during == "step":
        at_step(monkeypatch, steps, interrupt)
        steps += 1  # the one that was begun is ended
    else:
        measured = loop.measure

        def interrupted(*arguments):
            if (tmp_path / "epochs.csv").exists() and len(pd.read_csv(tmp_path / "epochs.csv")) == 2:
                interrupt()
            return measured(*arguments)

        monkeypatch.setattr(loop, "measure", interrupted)
    with pytest.raises(KeyboardInterrupt, match=f"{steps} steps"):
        fit(settings(), [images], tmp_path, progress=False)
    assert [path.name for path in tmp_path.glob("state_*")] == [f"state_{steps:07d}.pt"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    monkeypatch.undo()
    fit(settings(), [images], tmp_path, progress=False)
    assert_same_run(tmp_path, never_stopped)


def test_a_torn_state_is_recognised_and_the_one_before_it_used(images, tmp_path, caplog):
    run = Run(settings(save_seconds=0, epochs=3), [images], tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "end_epoch", crash)
        with pytest.raises(CrashError):
            run.train()
    states = sorted(path.name for path in tmp_path.glob("state_*"))
    assert states == ["state_0000002.pt", "state_0000003.pt"]
    torn = tmp_path / "state_0000003.pt"
    content = torn.read_bytes()  # the length is right, the content is not
    torn.write_bytes(content[:1_000_000] + bytes(1000) + content[1_001_000:])
    resumed = Run(settings(save_seconds=0), [images], tmp_path)
    resumed.restore()
    assert (resumed.epoch, resumed.step) == (0, 2)
    assert "state_0000003" in caplog.text
    (tmp_path / "state_0000002.pt").write_bytes(content[:-1000])
    with pytest.raises(StateError, match=r"state_0000003, state_0000002.*restart"):
        resumed.restore()


def test_a_damaged_checkpoint_of_a_run_is_reported_with_advice(never_stopped, images, tmp_path, monkeypatch):
    folder = shutil.copytree(never_stopped, tmp_path / "run")
    (folder / "results.csv").unlink()
    (folder / "best_quality.safetensors").write_bytes(bytes(20))
    monkeypatch.setattr(Run, "train", lambda run: None)
    with pytest.raises(StateError, match=r"best_quality.*--restart"):
        fit(settings(), [images], folder, progress=False)


@pytest.mark.parametrize("number", [pytest.param(0, marks=pytest.mark.slow), 2])
def test_a_full_disk_stops_the_run_and_keeps_the_last_state(
    never_stopped, images, tmp_path, monkeypatch, number
):
    """A limit on the size of files stands in for the disk: writing fails in the middle in the same way."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    at_step(monkeypatch, number, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (15_000_000, hard)))
    try:
        with pytest.raises(OSError, match="2 steps" if number else "state"):
            fit(settings(save_seconds=0), [images], tmp_path, progress=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.glob(".*.part*"))  # partial files are deleted
    monkeypatch.undo()
    fit(settings(save_seconds=0), [images], tmp_path, progress=False)
    assert_same_run(tmp_path, never_stopped)


def test_a_folder_with_other_settings_is_rejected_with_the_differences(never_stopped, images):
    folder = never_stopped
    with pytest.raises(RunFolderError, match=r"seed.*7.*learning_rate.*0\.002"):
        fit(settings(learning_rate=0.002, seed=7), [images], folder, progress=False)
    fit(settings(save_seconds=7, max_skipped=3), [images], folder, progress=False)  # these change nothing


def test_restart_replaces_the_run_and_nothing_else(images, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "steps.csv").write_text("of who knows what")
    with pytest.raises(RunFolderError, match=r"steps\.csv"):
        fit(settings(), [images], tmp_path, progress=False)
    for steps in (2, 1):
        fit(settings(epochs=1, steps=steps), [images], tmp_path, progress=False, restart=True)
        assert len(pd.read_csv(tmp_path / "steps.csv")) == steps
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_folder_in_use_is_rejected_with_its_owner(images, tmp_path, monkeypatch):
    chosen = settings(epochs=1, steps=1)

    def second():
        with pytest.raises(BusyError, match=f"process {os.getpid()}"):
            fit(chosen, [images], tmp_path, progress=False)
        crash()

    at_step(monkeypatch, 0, second)
    with pytest.raises(CrashError):
        fit(chosen, [images], tmp_path, progress=False)
    monkeypatch.undo()
    fit(chosen, [images], tmp_path, progress=False)  # the lock went with its owner
    path = tmp_path / "settings.json"
    finished = json.loads(path.read_text())
    for change in ({"format": 1}, {"settings": {"name": "smoke", "colour": 1}}):
        path.write_text(json.dumps(finished | change))
        with pytest.raises(RunFolderError, match=r"settings\.json.*version.*restart"):
            fit(chosen, [images], tmp_path, progress=False)


@pytest.fixture
def poisoned(images, monkeypatch):
    """The name of an image whose crops are NaN whenever it is in a batch."""
    name = f"mini/{images.table['image'][images.part(1, 'train')[3]]}"
    real = loop.TrainingBatches.batch

    def batch(self, *arguments):
        sound = real(self, *arguments)
        crops = normalize(sound.crops)
        crops[[image == name for image in sound.images]] = math.nan
        return dataclasses.replace(sound, crops=crops)

    monkeypatch.setattr(loop.TrainingBatches, "batch", batch)
    return name


def test_a_batch_with_nan_is_left_out_counted_and_named(images, tmp_path, poisoned):
    fit(settings(epochs=2), [images], tmp_path, progress=False)
    steps, skipped = pd.read_csv(tmp_path / "steps.csv"), pd.read_csv(tmp_path / "skipped.csv")
    # 12 images in batches of 6, three batches an epoch: it is in one of the first two, maybe in the third
    assert steps["skipped"].sum() == len(skipped) >= 2
    assert set(skipped["images"]) == {poisoned}
    assert steps.loc[steps["skipped"] == 1, "scene_loss"].isna().all()
    epochs = pd.read_csv(tmp_path / "epochs.csv")
    assert epochs["scene_loss"].notna().all()
    assert epochs["skipped"].sum() == len(skipped)
    with pytest.raises(TrainingError, match=f"max_skipped.*{poisoned}"):
        fit(settings(epochs=2, max_skipped=1), [images], tmp_path, progress=False, restart=True)
    assert len(pd.read_csv(tmp_path / "skipped.csv")) == 2


def test_a_step_on_a_bad_batch_changes_no_weight(images, tmp_path, poisoned):
    run = Run(settings(), [images], tmp_path)
    batch = next(b for b in (run.batches.batch(0, 0), run.batches.batch(0, 1)) if poisoned in b.images)
    before = {k: v.clone() for k, v in run.model.state_dict().items()}
    with pytest.raises(loop.BadBatchError, match="finite") as caught:
        run.take_step(batch, EQUAL, 1e-3)
    assert caught.value.images == (poisoned,)
    assert all(torch.equal(before[k], v) for k, v in run.model.state_dict().items())


def test_images_without_scores_are_accepted_only_for_other_tasks(images):
    bare = images.table.assign(mos=math.nan, distortion=None)
    bare["scenes"] = pd.Series([()] * len(bare), dtype=object)
    distorted = bare.assign(distortion=images.table["distortion"])
    scenic = bare.assign(scenes=pd.Series([("plant",)] * len(bare), dtype=object))
    for table in (distorted, scenic):
        sets = [LabelledImages("mini", table, images.images)]
        assert chosen(settings(), sets) == sets
    unlabelled, partly_scored = scenic.copy(), scenic.copy()
    row, unscored_row = images.part(1, "train")[[3, 0]]
    unscored_image = images.table["image"][unscored_row]
    unlabelled.at[row, "scenes"] = ()
    partly_scored.loc[row, "mos"] = 3.0
    for table in (bare, unlabelled, partly_scored):
        with pytest.raises(ValueError, match=rf"mini: .*train.*mos: {unscored_image}"):
            chosen(settings(), [LabelledImages("mini", table, images.images)])
    table = images.table.copy()
    table.loc[images.part(1, "val")[0], "mos"] = math.nan
    with pytest.raises(ValueError, match=f"val.*{table['image'][images.part(1, 'val')[0]]}"):
        chosen(settings(), [LabelledImages("mini", table, images.images)])


def test_a_learning_rate_that_diverges_stops_the_run(images, tmp_path):
    diverging = settings(learning_rate=1e9, steps=50, schedule="public", batch_sizes={"mini": 2}, crops=1)
    with pytest.raises(TrainingError, match="learning_rate"):
        fit(diverging, [images], tmp_path, progress=False)
    assert (tmp_path / "steps.csv").exists()


def test_the_losses_may_count_more(images, tmp_path):
    task_weights = []

    def step(batch, weights, rate):
        task_weights.append(dict(weights))
        return dict.fromkeys(weights, 0.5), 1.0

    run = Run(settings(quality_weight=3.0, scene_weight=5.0, epochs=1, steps=1), [images], tmp_path)
    run.take_step = step
    run.train()
    assert task_weights == [{"quality": 3.0, "scene": 5.0, "distortion": 1.0}]
    assert run.weighting.last_means()["quality"] == 0.5, "the dynamic weights look at the loss itself"


def test_a_rising_loss_does_not_stop_a_run(images, tmp_path):
    """As after a warm restart; weights that are not finite, or explode, do."""
    run = Run(settings(), [images], tmp_path)
    run.steps = [{"quality_loss": 0.1}] * 50 + [{"quality_loss": 0.9}] * 50
    run.watch.check(len(run.steps))
    weight = run.model.clip.text_projection
    before = weight.detach().clone()
    for wrong in (math.nan, 1e4):
        weight.data.fill_(wrong)
        run.watch.check(99)  # checked every fifty steps
        with pytest.raises(TrainingError, match="diverges"):
            run.watch.check(100)
        weight.data.copy_(before)
    run.watch.check(100)


def test_fewer_images_than_a_batch_are_a_short_batch(images, tmp_path):
    run = Run(settings(batch_sizes={"mini": 40}), [images], tmp_path)
    assert len(run.batches.batch(0, 0).images) == len(set(run.batches.batch(0, 1).images)) == 12
    empty = images.table.assign(session_1="test")
    with pytest.raises(ValueError, match="train"):
        fit(settings(), [LabelledImages("mini", empty, images.images)], tmp_path / "run")
    with pytest.raises(ValueError, match="other"):
        fit(settings(batch_sizes={"mini": 4, "other": 4}), [images], tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_that_trains_nothing_measures_the_weights_it_starts_with(images, tmp_path):
    chosen = settings(freeze="all", precision="public")
    results = fit(chosen, [images], tmp_path, progress=False)
    start = build_model(chosen)
    Precision("public", clip=start.clip)
    assert not any(p.requires_grad for p in start.parameters())
    expected = measure(start, [images], 1, "test")
    assert set(results["checkpoint"]) == {"quality", "scene", "distortion", "average"}
    for _, row in results.groupby("checkpoint"):
        for name in ("srcc", "scene_accuracy", "distortion_accuracy"):
            assert row[name].item() == pytest.approx(expected[name].item(), nan_ok=True)
    kept = LIQE.from_checkpoint(tmp_path / "best_quality.safetensors").state_dict()
    assert all(torch.equal(value, kept[name]) for name, value in start.state_dict().items())
    assert pd.read_csv(tmp_path / "steps.csv").empty and len(pd.read_csv(tmp_path / "epochs.csv")) == 1


def test_test_parts_are_measured_in_float32_whatever_a_run_computes_in(images, tmp_path):
    results = fit(settings(precision="bfloat16", epochs=1, steps=1), [images], tmp_path, progress=False)
    kept = LIQE.from_checkpoint(tmp_path / "best_quality.safetensors")
    reported = results[results["checkpoint"] == "quality"]
    assert reported["plcc"].item() == measure(kept, [images], 1, "test")["plcc"].item()


def test_too_little_memory_or_disk_is_reported_before_the_first_step(images, tmp_path, monkeypatch):
    monkeypatch.setattr("liqe_core.training.preflight.free_memory", lambda _: 10_000_000)
    with pytest.raises(MemoryError, match="gradient_checkpointing"):
        Run(settings(), [images], tmp_path)
    monkeypatch.undo()
    monkeypatch.setattr("liqe_core.training.preflight.disk_space", lambda _: 1 << 60)
    with pytest.raises(OSError, match="checkpoints"):
        Run(settings(), [images], tmp_path)


def test_equal_seeds_give_equal_runs_and_others_do_not(images, tmp_path):
    def first(seed: int) -> dict:
        run = Run(settings(seed=seed), [images], tmp_path)
        losses, _ = run.take_step(run.batches.batch(0, 0), EQUAL, 1e-3)
        return losses

    assert first(3) == first(3) != first(4)


def test_the_test_parts_are_measured_every_epoch_when_asked(images, tmp_path):
    chosen = settings(epochs=2, steps=1, test_every=1)
    results = fit(chosen, [images], tmp_path, progress=False)
    epochs, measures = pd.read_csv(tmp_path / "epochs.csv"), pd.read_csv(tmp_path / "measures.csv")
    assert measures["part"].tolist() == ["val", "test", "val", "test"]
    best = epochs["srcc"].fillna(-9).idxmax()
    tested = results[results["checkpoint"] == "quality"]
    assert tested["scene_accuracy"].item() == epochs["test_scene_accuracy"][best]
