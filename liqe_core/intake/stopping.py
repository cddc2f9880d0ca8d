"""A signal becomes one exception: how Ctrl-C and SIGTERM end long work, in a terminal and in a notebook.

    with stoppable() as stop:                      # scoring, notebooks: raised wherever the work is
        ...
    with stoppable(between_steps=True) as stop:    # training: raised by `stop.check()` alone
        for step in steps:
            ...
            stop.check()

A long job catches `StopRequested` in one place, saves there, and raises it again with how to go on.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

#: The signals so far. Work that one has ended does not wait for its thread that reads a URL.
signalled: list[int] = []


class StopRequested(KeyboardInterrupt):
    """A signal has asked the work to stop.

    Attributes:
        signal: its number.
        code: what the process ends with, as a shell counts it: 130 after SIGINT, 143 after SIGTERM.
    """

    def __init__(self, number: int, message: str = ""):
        super().__init__(message or f"stopped by {signal.Signals(number).name}")
        self.signal, self.code = number, 128 + number


class Stop:
    """Whether a signal has come.

    Attributes:
        signal: the number of the first one; 0: none.
    """

    signal = 0

    def check(self) -> None:
        """Raise where a signal has come, also one whose exception was lost in a callback of some library.

        Raises:
            StopRequested: a signal has come.
        """
        if self.signal:
            raise StopRequested(self.signal)


@contextlib.contextmanager
def stoppable(between_steps: bool = False) -> Iterator[Stop]:
    """In the block, SIGINT and SIGTERM raise `StopRequested`, and a second Ctrl-C ends the work at once.

    Outside the main thread nothing is changed, since signals go there; nor is a Ctrl-C that the shell has the
    process ignore.

    Args:
        between_steps: a signal is only noted, and raised by `Stop.check`; a second Ctrl-C is a plain
            KeyboardInterrupt wherever the work is. Otherwise a signal raises wherever the work is, a second
            one ends the process, and an error on which the block ends after a signal is taken for the
            signal's: code that is interrupted may report it in its own words.
    """
    stop = Stop()

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.signal and not between_steps:
            os._exit(128 + number)  # whatever waits and does not end; files are whole at any moment
        stop.signal = stop.signal or number
        signalled.append(number)
        if not between_steps:
            raise StopRequested(number)
        if number == signal.SIGINT:  # a second SIGTERM comes from torchrun or a batch system by itself
            if interrupted:
                raise KeyboardInterrupt
            interrupted.append(number)
            with contextlib.suppress(RuntimeError):  # it came while something else was being written
                print("\nstopping when the state is saved; once more: at once", file=sys.stderr, flush=True)

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
