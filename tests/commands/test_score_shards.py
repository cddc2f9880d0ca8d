"""``liqe score --scheduler``: many processes, killed ones among them, and the table of a single one."""

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from functools import partial

import pandas as pd
import pytest
import torch
from support.data import write_image
from support.models import of_twelve_prompts

from liqe_core import LIQE
from liqe_core.commands import score_engine, sweep
from liqe_core.commands.main import main
from liqe_core.commands.score_engine import Settings, ShardError, plan, score_on_workers

Future = pytest.importorskip("distributed").Future


@pytest.fixture
def folder(empty_folder, monkeypatch):
    """Thirty small images in ``images`` of the current folder, and two that are none; shards of four."""
    monkeypatch.setattr(score_engine, "SHARD_ON_WORKER", 5)
    for i in range(30):
        write_image(empty_folder / f"images/{i:02}.png", 40, 32 + 2 * i, seed=i)
    for name in ("07b.png", "07\\b.png"):
        (empty_folder / "images" / name).write_text("no image")
    return empty_folder


def score(model, *arguments):
    return main(["score", "--checkpoint", model, "--batch-size", "2", *map(str, arguments)])


def score_on(client, model, *arguments):
    return score(model, *arguments, "--scheduler", client.scheduler.address)


def test_it_is_the_table_of_one_process(client, model, folder, capsys):
    images = ["./images/03.png", "images", "not-there.png", folder / "images" / "29.png"]
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


def shards(folder):
    """The files of the shards that are scored, and when they were written."""
    return {path: path.stat().st_mtime_ns for path in sorted(folder.glob("*.jsonl"))}


@contextlib.contextmanager
def stopped_after(shards):
    """In the block, a run gets SIGTERM when it has scored so many shards."""
    scored, keep = [], score_engine.Shard.keep
    whole = score_engine.score_on_workers

    def stop(result):
        scored.append(result)
        if len(scored) == shards:
            os.kill(os.getpid(), signal.SIGTERM)
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(score_engine.Shard, "keep", lambda shard, rows: stop(keep(shard, rows)))
        patch.setattr(score_engine, "score_on_workers", lambda *run: map(stop, whole(*run)))
        yield


@pytest.mark.parametrize(
    "begun_on, count, ended_on",
    [("workers", 3, "workers"), ("workers", 3, "here"), ("here", 1, "workers")],
)
def test_a_run_that_was_stopped_goes_on_with_what_is_missing(
    client, model, folder, monkeypatch, capsys, begun_on, count, ended_on
):
    run = {"workers": partial(score_on, client), "here": score}
    assert score(model, "images", "--csv", "one.csv") == 1
    with stopped_after(count):
        assert run[begun_on](model, "images", "--csv", "many.csv") == 143
    assert "kept in many.csv.shards" in capsys.readouterr().err
    time.sleep(0.5)  # for what was being scored
    parts = shards(folder / "many.csv.shards")
    assert count <= len(parts) < 8
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


def test_workers_that_do_not_see_a_image(client, model, folder, capsys):
    def hide(name):
        """In a worker: no file of that name is seen."""
        import os

        see = vars(os).setdefault("_see", (os.stat, os.access))
        os.stat, os.access = see

        def stat(path, *mode, **more):
            if name and str(path).endswith(name):
                raise FileNotFoundError(2, "No such file or directory", path)
            return see[0](path, *mode, **more)

        os.stat = stat
        os.access = lambda path, mode: not (name and str(path).endswith(name)) and see[1](path, mode)

    client.run(hide, "images/03.png")
    try:
        assert score_on(client, model, "images", "--csv", "t.csv") == 1
    finally:
        client.run(hide, None)
    output = capsys.readouterr().err
    assert "images/03.png: no such file" in output and "the worker on" in output
    table = pd.read_csv("t.csv")
    assert table["error"].str.contains("the worker on").sum() == 1 and table["quality"].notna().sum() == 29

    assert score(model, "images", "--csv", "one.csv") == 1
    assert len(shards(folder / "t.csv.shards")) == 8
    assert score_on(client, model, "images", "--csv", "t.csv") == 1
    assert (folder / "t.csv").read_bytes() == (folder / "one.csv").read_bytes()


def test_a_worker_with_other_weights_or_without_the_folder_is_refused(client, model, folder, capsys):
    shutil.copy(model, "model")
    assert score_on(client, "model", "images/01.png", "--csv", "t.csv") == 0
    sent, whole = [], score_engine.score_on_workers

    def with_other_weights(client, pending):
        sent.extend(pending)
        changed = of_twelve_prompts()
        with torch.no_grad():
            changed.clip.logit_scale.add_(0.1)
        changed.save("model")  # after this process has read it, and before workers do
        yield from whole(client, pending)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(score_engine, "score_on_workers", with_other_weights)
        capsys.readouterr()
        assert score_on(client, "model", "images", "--csv", "t.csv", "--precision", "bfloat16") == 1
    message = capsys.readouterr().err
    assert "the worker on " in message and "checkpoint" in message
    assert "t.csv.shards" in message and "Traceback" not in message

    shutil.rmtree("t.csv.shards")
    with pytest.raises(ShardError, match=r"does not see .*t\.csv\.shards"):
        score_engine.score_shard(sent[0])


def test_what_cannot_be_begun_is_told_in_a_sentence(model, folder, capsys, monkeypatch):
    monkeypatch.setattr(sweep, "PATIENCE", 0.5)
    monkeypatch.setattr(LIQE, "from_checkpoint", lambda *_, **__: pytest.fail("too late"))
    for address in ("tcp://127.0.0.1:9", "nowhere", "http://127.0.0.1:9"):
        assert score(model, "images", "--csv", "t.csv", "--scheduler", address) == 1
        output = capsys.readouterr().err
        assert output.startswith("error: ") and address in output and output.count("\n") == 1
    assert score(model, "images", "--scheduler", "tcp://127.0.0.1:9") == 1
    assert "--csv FILE" in capsys.readouterr().err
    spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "distributed" else spec(name)
    )
    assert score(model, "images", "--csv", "t.csv", "--scheduler", "tcp://127.0.0.1:9") == 1
    assert "pip install distributed" in capsys.readouterr().err


def test_a_shard_that_ends_its_workers_does_not_keep_the_others(client, model, folder):
    """Nor is one blamed that waits on a worker whenever another ends it, as the one after it does."""
    settings = Settings(model, "", 0, "", "cpu", 2, "float32", "ignore", "ignore", "", "refuse")
    pending = plan([f"{i}.png" for i in range(40)], settings, 4)

    def work(shard):
        import os

        if shard.images[0] == "12.png":
            os._exit(1)
        return len(shard.images)

    scored = []
    with pytest.raises(ShardError, match=r"^1 shards .* 12\.png to 15\.png"):
        scored.extend(count for _, count in score_on_workers(client, pending, work))
    assert scored == [4] * 9


def test_a_scheduler_that_has_gone_is_named(client):
    """It takes the tasks along."""
    settings = Settings("", "", 0, "", "cpu", 2, "float32", "ignore", "ignore", "", "refuse")
    pending = plan([f"{i}.png" for i in range(40)], settings, 4)
    results = score_on_workers(client, pending, lambda shard: time.sleep(0.2) or len(shard.images))
    next(results)
    client.cancel([Future(key, client) for key in client.futures])
    with pytest.raises(ShardError, match="scheduler has gone"):
        list(results)


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


def test_the_scheduler_needs_neither_torch_nor_all_names(client):
    """It imports what a task is made of, and tasks carry a shard's names: it holds a few at a time."""
    code = "import sys, liqe_core.commands.score_engine; sys.exit(bool({'torch', 'pandas'} & {*sys.modules}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    settings = Settings("", "", 0, "", "cpu", 2, "float32", "ignore", "ignore", "", "refuse")
    pending = plan([f"{i}.png" for i in range(80)], settings, 4)
    results = score_on_workers(client, pending, lambda shard: len(shard.images))
    task_counts = [len(client.cluster.scheduler.tasks) for _ in results]
    assert len(task_counts) == 20 and max(task_counts) <= score_engine.AHEAD * 2, "workers"


def deadly_worker(log, image):
    """Of each worker: it notes which image it looks at, and is killed at `image` the first time."""
    from distributed import WorkerPlugin

    class Deadly(WorkerPlugin):  # made here, so that it is sent whole: workers have no tests to import
        def setup(self, worker):
            from liqe_core import crops, scoring

            self.whole, self.readers = crops.scoring_crops, scoring.READERS

            def deadly(pixels, geometry, name):
                first = image not in log.read_text()
                with log.open("a") as file:
                    file.write(name + "\n")
                if first and name == image:
                    os.kill(os.getpid(), signal.SIGKILL)
                return self.whole(pixels, geometry, name)

            crops.scoring_crops, scoring.READERS = deadly, 1

        def teardown(self, worker):
            from liqe_core import crops, scoring

            crops.scoring_crops, scoring.READERS = self.whole, self.readers

    return Deadly()


def test_a_killed_workers_shard_goes_to_another(client, model, folder):
    assert score(model, "images", "--csv", "one.csv") == 1
    log = folder / "log.txt"
    log.touch()
    client.register_plugin(deadly_worker(log, "images/17.png"), name="deadly")
    try:
        assert score_on(client, model, "images", "--csv", "many.csv") == 1
    finally:
        client.unregister_worker_plugin("deadly")
    assert (folder / "many.csv").read_bytes() == (folder / "one.csv").read_bytes()
    times = Counter(log.read_text().splitlines())
    assert times["images/17.png"] == 2, "by another"
    assert sum(count > 1 for count in times.values()) <= 5, "of that shard alone"
