"""How far long work is: a bar in a terminal, and elsewhere a line now and then, which a log can show.

The one rule for all of the package. Notebooks are no terminal: the page that is made of one keeps what was
written, and of a bar that would be its first state or a thousand of them.
"""

from __future__ import annotations

import sys
from typing import Any

from tqdm.std import tqdm as _tqdm

#: Seconds between two lines; what is done sooner says nothing.
EVERY = 15.0


class tqdm(_tqdm):  # type: ignore[type-arg]
    """tqdm, whose bar is lines where `file` (default: standard error) is no terminal."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        options["file"] = options.get("file") or sys.stderr
        if not options["file"].isatty():
            shown = "{desc}{n_fmt} of {total_fmt} {unit} [{elapsed}, {remaining} to go{postfix}]"
            lines = {"mininterval": EVERY, "maxinterval": EVERY, "delay": EVERY, "bar_format": shown}
            options = {**options, **lines}
        super().__init__(*arguments, **options)
        if not self.disable and self.desc:
            self.desc = f"{self.desc.removesuffix(': ')}: "

    @staticmethod
    def status_printer(file: Any) -> Any:
        """What writes a state to `file`: over the last one in a terminal, else below it."""
        if file.isatty():
            return _tqdm.status_printer(file)
        last = ""

        def write(state: str) -> None:
            nonlocal last
            if state and state != last:
                file.write(f"\n{state}" if last else state)  # tqdm ends the last one
                file.flush()
                last = state

        return write
