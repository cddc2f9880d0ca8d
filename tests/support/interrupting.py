"""Interrupted runs: the harness that stops or kills any job at any moment and checks its files.

    job = Job(liqe, ("score", "images", "--csv", "t.csv"))        # `liqe ...` in its own process
    assert job.ended_by(signal.SIGTERM, when=lambda: folder.exists()) == 143
    assert job.killed_at("os.replace", 3) == -signal.SIGKILL      # at the third call
    codes = job.ended_at_random(random.Random(0), kills=8, seconds=2.0)    # then let it end

A job is any importable function and its arguments; its exit code is the number that the function returns, or
0 if that is not a number. A server that has imported torch and this package forks the process, so that it
starts in milliseconds; it has one torch thread, as in the tests. `when` is a function that returns whether to
stop the job now.
"""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import os
import pkgutil
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)

#: Timeout in seconds.
PATIENCE = 120

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(
    ["pytest", "liqe_core.training.loop", "liqe_core.commands.main", "support.training"]
)


@dataclasses.dataclass(frozen=True)
class Job:
    """A function that runs in its own process.

    Attributes:
        function: importable.
        arguments: picklable.
        log: a file for its standard output and error.
        variables: additional environment variables.
        patches: replacements in its process by dotted name.
    """

    function: Callable[..., object]
    arguments: tuple
    log: Path | str = os.devnull
    variables: dict[str, str] = dataclasses.field(default_factory=dict)
    patches: dict[str, object] = dataclasses.field(default_factory=dict)

    def start(self) -> multiprocessing.Process:
        """Its process, in the current folder, once its function is about to be called."""
        begun, begin = _processes.Pipe(duplex=False)
        variables = {**os.environ, **self.variables}
        process = _processes.Process(target=_run, args=(self, os.getcwd(), variables, begin))
        process.start()
        begin.close()
        begun.recv()
        return process

    def ended(self, count: int = 1) -> list[int]:
        """The exit codes of so many processes that run it at the same time."""
        processes = [self.start() for _ in range(count)]
        for process in processes:
            process.join()
        return [process.exitcode for process in processes]

    def ended_by(self, number: int, when: Callable[[], bool]) -> int:
        """Run it, and send it a signal as soon as a moment has come.

        Returns:
            Its exit code, or the negative number of the signal that ended it.
        """
        process, began = self.start(), time.monotonic()
        while not when() and process.is_alive():
            assert time.monotonic() - began < PATIENCE, f"the moment did not come; see {self.log}"
            time.sleep(0.002)
        with contextlib.suppress(ProcessLookupError):  # it was faster
            os.kill(process.pid, number)
        process.join()
        return process.exitcode

    def killed_at(self, call: str, count: int) -> int:
        """Run the job, and kill it at the `count`-th call of the function `call`; return its exit code."""
        return dataclasses.replace(self, patches=self.patches | {call: _Deadly(call, count)}).ended()[0]

    def ended_at_random(
        self, rng: random.Random, kills: int, seconds: float, after: Callable[[], None] = lambda: None
    ) -> list[int]:
        """End it so many times, each within so many seconds by one of `SIGNALS`, then let it end by itself.

        Args:
            after: called each time that it has ended.

        Returns:
            Its exit codes.
        """
        codes = []
        while not codes or codes[-1] not in (0, 1):
            assert len(codes) < kills + 2, f"it does not end when it is let: {codes}"
            if len(codes) < kills:
                end = time.monotonic() + rng.uniform(0, seconds)
                codes.append(self.ended_by(rng.choice(SIGNALS), lambda end=end: time.monotonic() > end))
            else:
                codes += self.ended()
            after()
        return codes


def liqe(*arguments: str) -> int:
    """The command ``liqe``, as a job's function."""
    from liqe_core.commands.main import main

    return main([str(argument) for argument in arguments])


class _Deadly:
    """What a name stands for, until the call that kills the process."""

    def __init__(self, call: str, count: int):
        self.call, self.count = call, count

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state, whole=pkgutil.resolve_name(state["call"]))

    def __call__(self, *arguments, **options):
        self.count -= 1
        if not self.count:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.whole(*arguments, **options)


def _run(job: Job, folder: str, variables: dict[str, str], begin: Connection) -> None:
    import torch

    signal.signal(signal.SIGINT, signal.default_int_handler)  # pytest's own process may ignore it
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(variables)
    torch.set_num_threads(1)
    log = os.open(job.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (1, 2):
        os.dup2(log, stream)
    sys.stdout = sys.stderr = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115
    code = 99
    try:
        for name, value in job.patches.items():
            pytest.MonkeyPatch().setattr(name, value)
        begin.send("begun")
        result = job.function(*job.arguments)
        code = result if isinstance(result, int) else 0
    except KeyboardInterrupt as stopped:  # also one that came before the function was called
        code = getattr(stopped, "code", 130)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)
