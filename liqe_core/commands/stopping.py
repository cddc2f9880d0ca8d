"""Ctrl-C and SIGTERM: what was to be said is said, and the exit code is the shell's."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class StopSignal(KeyboardInterrupt):
    """A signal that asks to stop.

    Attributes:
        code: what the process is to end with: 130 after SIGINT, 143 after SIGTERM.
    """

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.code = 128 + number


class Stop:
    """Whether a signal has come."""

    number = 0

    def check(self) -> None:
        """Raise when a signal has come whose exception was lost, in a callback of some library.

        Raises:
            StopSignal: a signal has come.
        """
        if self.number:
            raise StopSignal(self.number)


@contextlib.contextmanager
def stoppable() -> Iterator[Stop]:
    """In the block, SIGINT and SIGTERM raise `StopSignal`; a second one ends the process at once.

    An error on which the block ends after a signal is taken for the signal's: code that is interrupted midway
    may tell it in its own words. Outside the main thread nothing is changed, since signals go there.
    """
    stop = Stop()

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.number:
            os._exit(128 + number)  # whatever waits and does not end; files are whole at any moment
        stop.number = number
        raise StopSignal(number)

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    except StopSignal:
        raise
    except BaseException as error:
        if stop.number:
            raise StopSignal(stop.number) from error
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
