"""How far long work is: a bar in a terminal, lines elsewhere."""

import io

import pytest

from liqe_core.intake import progress


class Written(io.StringIO):
    terminal = False

    def isatty(self):
        return self.terminal


@pytest.fixture
def shown(monkeypatch):
    """What a loop over some images writes, one look an image."""

    def run(terminal=False, every=0.0, **options):
        monkeypatch.setattr(progress, "EVERY", every)
        file = Written()
        file.terminal = terminal
        for _ in progress.tqdm(range(3), "thumbnails", unit="image", file=file, mininterval=0, **options):
            pass
        return file.getvalue()

    return run


def test_a_log_gets_complete_lines(shown):
    log = shown()
    assert "\r" not in log and log.endswith("\n") and "\n\n" not in log
    assert "3 of 3" in log.splitlines()[-1]


def test_a_short_loop_writes_nothing_to_a_log(shown):
    assert shown(every=60.0) == "" and shown(disable=True) == ""


def test_a_terminal_has_a_bar(shown):
    bar = shown(terminal=True)
    assert "\r" in bar and "100%|" in bar
