"""Progress reporting: a bar in a terminal, and occasional lines elsewhere, for example in a log.

The whole package uses this module. Notebooks also get lines, because a page built from a notebook would keep
only the first state of a bar, or all of its states.
"""

from __future__ import annotations

import sys
from typing import Any

from tqdm.std import tqdm as _tqdm

#: Seconds between two lines. Shorter work shows no progress.
EVERY = 15.0


class tqdm(_tqdm):  # type: ignore[type-arg]
    """A tqdm bar that writes lines if `file` (default: standard error) is not a terminal."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        options["file"] = options.get("file") or sys.stderr
        if not options["file"].isatty():
            line_format = "{desc}{n_fmt} of {total_fmt} {unit} [{elapsed}, {remaining} to go{postfix}]"
            options |= {"mininterval": EVERY, "maxinterval": EVERY, "delay": EVERY, "bar_format": line_format}
        super().__init__(*arguments, **options)
        if not self.disable and self.desc:
            self.desc = f"{self.desc.removesuffix(': ')}: "

    @staticmethod
    def status_printer(file: Any) -> Any:
        """Return the function that writes a state: over the last one in a terminal, otherwise below it."""
        if file.isatty():
            return _tqdm.status_printer(file)
        last = ""

        def write(state: str) -> None:
            nonlocal last
            if state and state != last:
                file.write(f"\n{state}" if last else state)  # tqdm itself ends the last line
                file.flush()
                last = state

        return write
