"""Signals: the exception of a stoppable block, and when it is raised."""

import contextlib
import os
import signal
import subprocess
import sys

import pytest

from liqe_core.intake.stopping import StopRequested, stoppable

pytestmark = pytest.mark.usefixtures("interruptible")


def send(number):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_raises_inside_the_block(number, code):
    before, passed = signal.getsignal(number), []
    with pytest.raises(StopRequested, match=signal.Signals(number).name) as stopped, stoppable():
        send(number)
        passed.append("the signal")
    assert (stopped.value.signal, stopped.value.code) == (number, code) and not passed
    assert isinstance(stopped.value, KeyboardInterrupt), "as notebooks and libraries know it"
    assert signal.getsignal(number) == before


def test_an_exception_that_a_library_swallows_or_renames_is_raised():
    with pytest.raises(StopRequested), stoppable() as stop:
        with contextlib.suppress(KeyboardInterrupt):
            send(signal.SIGTERM)
        stop.check()
    with pytest.raises(StopRequested), stoppable():
        try:
            send(signal.SIGTERM)
        except KeyboardInterrupt:
            raise OSError("a decoder was interrupted") from None
    with pytest.raises(OSError, match="before any signal"), stoppable():
        raise OSError("before any signal")
    with pytest.raises(OSError, match="no space"), stoppable(between_steps=True):
        send(signal.SIGTERM)
        raise OSError("no space")  # while the state is saved


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_between_steps_a_signal_waits_for_the_check(number):
    passed = []
    with pytest.raises(StopRequested) as stopped, stoppable(between_steps=True) as stop:
        stop.check()
        send(number)
        passed.append("the step")
        stop.check()
    assert passed == ["the step"] and stopped.value.signal == number


def test_between_steps_a_second_interrupt_does_not_wait_and_a_second_sigterm_does():
    with pytest.raises(KeyboardInterrupt) as stopped, stoppable(between_steps=True) as stop:
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
            send(number)
        assert stop.signal == signal.SIGTERM
        send(signal.SIGINT)
    assert not isinstance(stopped.value, StopRequested), "code that saves a state must not save inside a step"


@pytest.mark.parametrize("between_steps", [False, True])
def test_an_interrupt_that_the_shell_has_ignored_stays_so(between_steps):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with stoppable(between_steps) as stop:
        send(signal.SIGINT)
        assert not stop.signal


def test_a_second_signal_ends_the_process_at_once():
    code = """if True:
        import os, signal, time
        from liqe_core.intake.stopping import stoppable
        with stoppable():
            try:
                os.kill(os.getpid(), signal.SIGTERM)
            finally:
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(60)
    """
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 143
