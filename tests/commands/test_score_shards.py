"""``liqe score --scheduler``: many processes, killed ones among them, and the table of a single one."""

import contextlib
import dataclasses
import importlib.util
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from functools import partial

import pytest
import torch
from support.models import of_twelve_prompts

from liqe_core import LIQE
from liqe_core.commands import score_engine, sweep
from liqe_core.commands.main import main
from liqe_core.commands.score_engine import Settings, ShardError, plan, score_on_workers
from liqe_core.intake.stopping import Stop

Future = pytest.importorskip("distributed").Future


@pytest.fixture
def folder(folder, monkeypatch):
    """Twenty images and two invalid files; shards of four."""
    monkeypatch.setattr(score_engine, "SHARD_ON_WORKER", 5)
    (folder / "images" / "07\\b.png").write_text("no image")
    return folder


def score(model, *arguments):
    return main(["score", "--checkpoint", model, "--batch-size", "2", *map(str, arguments)])


def score_on(client, model, *arguments):
    return score(model, *arguments, "--scheduler", client.scheduler.address)


def test_it_is_the_table_of_one_process(client, model, folder, capsys):
    images = ["./images/03.png", "images", "not-there.png", folder / "images" / "19.png"]
    forms = ["csv", "json", "html", *(["parquet"] if importlib.util.find_spec("pyarrow") else [])]
    tables = [word for form in forms for word in (f"--{form}", f"{{}}.{form}")]
    assert score(model, *images, *(word.format("one") for word in tables)) == 1
    alone = capsys.readouterr()
    assert score_on(client, model, *images, *(word.format("many") for word in tables)) == 1
    output = capsys.readouterr()
    assert output.out == alone.out.replace("one.", "many.")
    reasons = [line for line in alone.err.splitlines() if ".png: " in line]
    assert len(reasons) == 3 and output.err.splitlines()[-3:] == reasons
    for form in forms:
        assert (folder / f"many.{form}").read_bytes() == (folder / f"one.{form}").read_bytes(), form
    assert not (folder / "many.csv.shards").exists()
    assert score(model, "images/01.png", "--csv", "one.csv", "--distributions") == 0
    assert score_on(client, model, "images/01.png", "--csv", "many.csv", "--distributions") == 0
    assert (folder / "many.csv").read_bytes() == (folder / "one.csv").read_bytes(), "without an error column"


def pending(count, folder=None):
    """Shards of four images that nobody reads."""
    settings = Settings("", "", 0, "", "cpu", 2, "float32", "ignore", "ignore", "", "refuse")
    return plan([f"{i}.png" for i in range(count)], settings, 4, folder)


def shards(folder):
    """The files of the shards that are scored, and when they were written."""
    return {path: path.stat().st_mtime_ns for path in sorted(folder.glob("*.jsonl"))}


@pytest.mark.parametrize(
    "begun_on, count, ended_on",
    [("workers", 2, "workers"), ("workers", 2, "here"), ("here", 1, "workers")],
)
def test_an_interrupted_run_scores_only_missing_images(
    client, model, folder, monkeypatch, capsys, begun_on, count, ended_on
):
    run = {"workers": partial(score_on, client), "here": score}
    assert score(model, "images", "--csv", "one.csv") == 1
    checks, whole = itertools.count(), Stop.check

    def check(stop):
        if next(checks) == count:  # the first is before the run
            os.kill(os.getpid(), signal.SIGTERM)
        whole(stop)

    with monkeypatch.context() as patch:
        patch.setattr(Stop, "check", check)
        assert run[begun_on](model, "images", "--csv", "many.csv") == 143
    assert "saved in many.csv.shards" in capsys.readouterr().err
    time.sleep(0.5)  # for images being scored
    parts = shards(folder / "many.csv.shards")
    assert count <= len(parts) < 6
    assert run[ended_on](model, "images", "--csv", "many.csv", "--batch-size", "3") == 1
    assert "--batch-size" in capsys.readouterr().err

    # What has changed since is scored again, with its shard; the same image under another time.
    changed = sorted(parts)[-1]
    os.utime(folder / json.loads(changed.read_text().splitlines()[0])["image"], ns=(1, 1))
    monkeypatch.setattr(shutil, "rmtree", lambda path: None)
    assert run[ended_on](model, "images", "--csv", "many.csv") == 1
    kept = shards(folder / "many.csv.shards")
    assert [path for path in parts if kept[path] != parts[path]] == [changed]
    assert (folder / "many.csv").read_bytes() == (folder / "one.csv").read_bytes()


def test_a_worker_with_other_weights_or_without_the_folder_is_rejected(
    client, model, folder, monkeypatch, capsys
):
    changed = of_twelve_prompts()
    with torch.no_grad():
        changed.clip.logit_scale.add_(0.1)
    changed.save(other := str(folder / "other"))

    def changing(shard):
        settings = dataclasses.replace(shard.settings, checkpoint=other)
        return score_engine.score_shard(dataclasses.replace(shard, settings=settings))

    monkeypatch.setattr(score_engine, "score_on_workers", partial(score_on_workers, work=changing))
    assert score_on(client, model, "images", "--csv", "t.csv") == 1
    message = capsys.readouterr().err
    assert "the worker on " in message and "checkpoint" in message
    assert "t.csv.shards" in message and "Traceback" not in message
    with pytest.raises(ShardError, match=r"none\.shards"):
        score_engine.score_shard(pending(4, folder / "none.shards")[0])


def test_jobs_that_cannot_start_are_reported_in_a_sentence(model, folder, capsys, monkeypatch):
    monkeypatch.setattr(sweep, "PATIENCE", 0.5)
    monkeypatch.setattr(LIQE, "from_checkpoint", lambda *_, **__: pytest.fail("too late"))
    for address in ("tcp://127.0.0.1:9", "nowhere", "http://127.0.0.1:9"):
        assert score(model, "images", "--csv", "t.csv", "--scheduler", address) == 1
        output = capsys.readouterr().err
        assert output.startswith("error: ") and address in output and output.count("\n") == 1
    assert score(model, "images", "--scheduler", "tcp://127.0.0.1:9") == 1
    assert "--csv FILE" in capsys.readouterr().err
    monkeypatch.setattr(importlib.util, "find_spec", {}.get)
    assert score(model, "images", "--csv", "t.csv", "--scheduler", "tcp://127.0.0.1:9") == 1
    assert "pip install distributed" in capsys.readouterr().err


def test_several_gpus_are_all_used(client, model, folder, capsys, monkeypatch):
    made = []

    @contextlib.contextmanager
    def workers(scheduler):
        assert not scheduler
        made.append("workers")
        yield client

    monkeypatch.setattr(sweep, "dask_client", workers)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr("liqe_core.commands.score_engine.device_name", lambda name: "cpu")  # computes here
    assert score(model, "images", "--csv", "t.csv", "--device", "auto") == 1
    assert made == ["workers"] and (folder / "t.csv").exists()
    for arguments in (["--device", "cpu"], ["--device", "auto", "--include", "00.png"]):
        assert score(model, "images", "--csv", "t.csv", *arguments) in (0, 1)
    assert made == ["workers"], "not on the CPU, nor for a handful"


def test_a_killed_workers_shard_goes_to_another(client, model, folder, monkeypatch):
    assert score(model, "images", "--csv", "one.csv") == 1
    log = folder / "log.txt"

    def deadly(shard):
        with log.open("a") as file:
            file.write(f"{shard.number}\n")
        if shard.number == 4 and log.read_text().split().count("4") == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return score_engine.score_shard(shard)

    monkeypatch.setattr(score_engine, "score_on_workers", partial(score_on_workers, work=deadly))
    assert score_on(client, model, "images", "--csv", "many.csv") == 1
    assert (folder / "many.csv").read_bytes() == (folder / "one.csv").read_bytes()
    times = Counter(log.read_text().split())
    assert times["4"] == 2, "by another"
    assert sum(count > 1 for count in times.values()) <= 2, "of the killed worker alone"


def test_the_scheduler_needs_neither_torch_nor_all_names(client):
    """The scheduler imports the code of a task; tasks carry a shard's names, a few at a time."""
    code = "import sys, liqe_core.commands.score_engine; sys.exit(bool({'torch', 'pandas'} & {*sys.modules}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    results = score_on_workers(client, pending(80), lambda shard: len(shard.images))
    task_counts = [len(client.cluster.scheduler.tasks) for _ in results]
    assert len(task_counts) == 20 and max(task_counts) <= score_engine.AHEAD * 2, "workers"


def test_a_shard_that_ends_its_workers_does_not_keep_the_others(client):

    def work(shard):
        import os

        if shard.images[0] == "12.png":
            os._exit(1)
        return len(shard.images)

    scored = []
    with pytest.raises(ShardError, match=r"^1 shards .* 12\.png to 15\.png"):
        scored.extend(count for _, count in score_on_workers(client, pending(40), work))
    assert scored == [4] * 9, "also the shards that waited on a worker which another one ended"


def test_a_stopped_scheduler_is_named(client):
    """It takes the tasks along."""
    results = score_on_workers(client, pending(40), lambda shard: time.sleep(0.2) or len(shard.images))
    next(results)
    client.cancel([Future(key, client) for key in client.futures])
    with pytest.raises(ShardError, match="Dask scheduler"):
        list(results)
