"""Signals as exceptions: Ctrl-C and SIGTERM end long jobs in a terminal and in a notebook.

    with stoppable() as stop:                      # scoring, notebooks: raised immediately
        ...
    with stoppable(between_steps=True) as stop:    # training: raised only by `stop.check()`
        for step in steps:
            ...
            stop.check()

A long job catches `StopRequested` in one place, saves its state, and raises it again with a message on how to
resume.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

#: The signals received so far. After a signal, a job does not wait for threads that still read a URL.
signalled: list[int] = []


class StopRequested(KeyboardInterrupt):
    """Raised if a signal requests to stop the job.

    Attributes:
        signal: number of the signal.
        code: exit code of the process by shell convention: 130 after SIGINT, 143 after SIGTERM.
    """

    def __init__(self, number: int, message: str = ""):
        super().__init__(message or f"stopped by {signal.Signals(number).name}")
        self.signal, self.code = number, 128 + number


class Stop:
    """The state of a stop request.

    Attributes:
        signal: number of the first signal received; 0 if there is none.
    """

    signal = 0

    def check(self) -> None:
        """Raise if a signal was received, even if a library callback discarded its exception.

        Raises:
            StopRequested: if a signal was received.
        """
        if self.signal:
            raise StopRequested(self.signal)


@contextlib.contextmanager
def stoppable(between_steps: bool = False) -> Iterator[Stop]:
    """Raise `StopRequested` on SIGINT and SIGTERM within the block. A second Ctrl-C ends the work at once.

    Only the main thread receives signals, so nothing changes in other threads. If the shell has set the
    process to ignore SIGINT, it stays ignored.

    Args:
        between_steps: if True, a signal is only recorded, and `Stop.check` raises it. A second Ctrl-C raises
            KeyboardInterrupt immediately. If False, a signal raises immediately, and a second one ends the
            process. Any error that ends the block after a signal then becomes `StopRequested`, because
            interrupted code may raise an error of its own.
    """
    stop = Stop()

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.signal and not between_steps:
            os._exit(128 + number)  # ends blocked code, too; safe because all files are written atomically
        stop.signal = stop.signal or number
        signalled.append(number)
        if not between_steps:
            raise StopRequested(number)
        if number == signal.SIGINT:  # torchrun and batch systems send a second SIGTERM on their own
            if interrupted:
                raise KeyboardInterrupt
            interrupted.append(number)
            with contextlib.suppress(RuntimeError):  # the signal interrupted another write to stderr
                print("\nstopping after the state is saved; Ctrl-C again: now", file=sys.stderr, flush=True)

    interrupted: list[int] = []
    in_main = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT) if in_main}
    if before.get(signal.SIGINT) == signal.SIG_IGN:
        del before[signal.SIGINT]
    for number in before:
        signal.signal(number, handle)
    try:
        yield stop
    except StopRequested:
        raise
    except BaseException as error:
        if stop.signal and not between_steps:
            raise StopRequested(stop.signal) from error
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
