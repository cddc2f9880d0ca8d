"""A sweep on Dask's own local cluster, with a notebook that does next to nothing."""

import os
import signal
import threading
import time
import warnings
from pathlib import Path

import dask
import nbformat
import pytest
from support.books import book_of

from liqe_core.commands import sweep
from liqe_core.commands.main import main
from liqe_core.prompts import VARIANTS
from liqe_core.training.runs import run_folder

STUB = """
import os, pathlib, time
cell = pathlib.Path(out_dir)
def note(what):
    with open(cell.parent / "log.txt", "a") as file:
        file.write(f"{what} {cell.name} {os.getppid()}\\n")
ended = (cell.parent / "log.txt").read_text().count("end") if (cell.parent / "log.txt").exists() else 0
note("start")
# Long enough to be killed in the middle: a notebook checks every second whether its worker is alive.
time.sleep(3 if ended in slow_after else 0)
if variant == fail:
    raise ValueError("the reason")
run = pathlib.Path(runs_root) / "train" / cell.name
run.mkdir(parents=True, exist_ok=True)
(run / "results.csv").write_text("checkpoint\\n")
note("end")
"""


@pytest.fixture
def stub(tmp_path):
    """Write a notebook that sleeps, then writes the files of a finished run; return its path."""

    def write(slow_after=(), fail=""):
        lines = [f'{name} = ""  # str' for name in ("profile", "variant", "runs_root", "out_dir")]
        lines += ["sessions = []  # list", "seed = 0  # int", f"slow_after = {list(slow_after)}  # list"]
        path = tmp_path / "book" / "02_stub.ipynb"
        path.parent.mkdir(exist_ok=True)
        nbformat.write(book_of("\n".join([*lines, f"fail = {fail!r}  # str"]), STUB), path)
        return path

    return write


def log(root):
    path = root / "sweep" / "log.txt"
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


@pytest.mark.slow
def test_a_worker_killed_half_way(tmp_path, stub, client):
    grid = sweep.cells("smoke", seeds=[1])
    killed = []

    def kill_a_worker_half_way():
        while True:
            time.sleep(0.02)
            lines = log(tmp_path)
            ended = [cell for what, cell, _ in lines if what == "end"]
            if len(ended) in (1, 2) and lines[-1][0] == "start":  # it sleeps; its parent is a worker
                os.kill(int(lines[-1][2]), signal.SIGKILL)
                killed.append(lines[-1][1])
                return

    killer = threading.Thread(target=kill_a_worker_half_way, daemon=True)
    killer.start()
    summary = sweep.sweep(grid, tmp_path, client, stub(slow_after=[1, 2]))
    assert len(killed) == 1
    assert summary["state"].tolist() == ["done"] * 4
    names = sorted(summary["cell"])
    assert sorted(cell for what, cell, _ in log(tmp_path) if what == "end") == names, "each one ends once"
    starts = [cell for what, cell, _ in log(tmp_path) if what == "start"]
    assert sorted(starts) == sorted([*names, *killed]), "the killed worker's cell again, and no other"
    assert not (tmp_path / "sweep" / "running.json").exists()

    again = sweep.sweep(grid, tmp_path, client, stub())
    assert again["state"].tolist() == ["done before"] * 4
    assert len(log(tmp_path)) == 9, "finished cells are not repeated"


def test_a_failed_cell_keeps_its_notebook_and_error_and_the_others_go_on(tmp_path, stub, client, capsys):
    grid = sweep.cells("smoke", seeds=[1], variants=VARIANTS[:2])
    summary = sweep.sweep(grid, tmp_path, client, stub(fail=VARIANTS[1]))
    assert summary["state"].tolist() == ["done", "failed"]
    bad = summary.iloc[1]
    assert bad["error"] == "ValueError: the reason"
    assert "raise ValueError" in bad["traceback"] and "\x1b" not in bad["traceback"]
    assert "the reason" in Path(bad["notebook"]).read_text()
    assert "failed, ValueError: the reason" in capsys.readouterr().out
    mended = sweep.sweep(grid, tmp_path, client, stub())
    assert mended["state"].tolist() == ["done before", "done"]


def test_the_grid_equals_the_notebooks_runs(tmp_path):
    assert len(sweep.cells("smoke")) == 12 == len(VARIANTS) * 3
    one, two = sweep.cells("smoke", sessions=[1, 2], seeds=[5], variants=["quality"], changes={"epochs": 1})
    assert (one.settings.session, one.settings.seed, one.settings.steps.epochs) == (1, 5, 1)
    assert (two.settings.session, two.settings.seed) == (2, 6), "as 04_multitask_training counts"
    assert two.parameters["seed"] == 5 and two.parameters["changes"] == {"epochs": 1}
    assert run_folder(one.settings, tmp_path) != run_folder(two.settings, tmp_path)
    with pytest.raises(ValueError, match="unknown setting"):
        sweep.cells("smoke", changes={"colour": 1})


def test_the_command_shows_the_traceback_and_fails(tmp_path, stub, monkeypatch, capsys):
    stub(fail="quality").rename(tmp_path / "book" / "04_multitask_training.ipynb")
    monkeypatch.setattr(sweep.notebooks, "NOTEBOOKS", tmp_path / "book")
    grid = ["--seeds", "1", "--variants", "quality", "--workers", "1", "--dashboard", "127.0.0.1:0"]
    assert main(["sweep", "--profile", "smoke", "--out", str(tmp_path / "out"), *grid]) == 1
    said = capsys.readouterr()
    assert "dashboard: http" in said.out and "raise ValueError" in said.out
    assert "0 of 1 cells are done" in said.out and "no finished run" in said.out


def test_of_several_gpus_each_worker_sees_one_also_when_it_starts_again(monkeypatch):
    """However long that takes: as on a busy machine, it takes longer than Dask waits for it."""
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    with (
        warnings.catch_warnings(action="ignore", category=ResourceWarning),
        dask.config.set({"distributed.deploy.lost-worker-timeout": "100ms"}),
        sweep.dask_client(dashboard="127.0.0.1:0") as client,
    ):
        seen = client.run(os.getenv, "CUDA_VISIBLE_DEVICES")
        for process in client.run(os.getpid).values():
            os.kill(process, signal.SIGKILL)
        while client.nthreads().keys() & seen.keys():
            time.sleep(0.05)
        client.wait_for_workers(2, timeout=120)
        seen_again = client.run(os.getenv, "CUDA_VISIBLE_DEVICES")
    assert sorted(seen.values()) == sorted(seen_again.values()) == ["4", "7"]
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "4,7", "the sweep's own process is left as it was"


def test_the_plan_lists_finished_cells_and_output_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("LIQE_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("LIQE_CACHE", str(tmp_path / "cache"))
    grid = sweep.cells("paper", seeds=[1], variants=["quality"])
    run = run_folder(grid[0].settings, tmp_path / "out")
    run.mkdir(parents=True)
    (run / "results.csv").write_text("checkpoint\n")
    announced = sweep.announcement(grid, tmp_path / "out")
    assert "1 already finished" in announced and str(tmp_path / "out" / "train") in announced
