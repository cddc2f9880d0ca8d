"""What was found out of the files in a folder, noted while it is found out, so that a kill loses little."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path


class Journal:
    """A line of JSON for each file that was looked at, with its size and time then.

    Args:
        path: the journal's own file; it need not be there.
        folder: the one that the files' names are relative to.
    """

    def __init__(self, path: str | os.PathLike, folder: str | os.PathLike):
        self.path, self.folder = Path(path), Path(folder)

    def stamp(self, file: str) -> dict:
        """What an entry starts with: ``file``, ``size`` and ``time``.

        Raises:
            OSError: the file is not there, or may not be looked at.
        """
        stat = (self.folder / file).stat()
        return {"file": file, "size": stat.st_size, "time": stat.st_mtime_ns}

    def current(self) -> dict[str, dict]:
        """The last entry of each file that has not changed since.

        Raises:
            ValueError: the file holds something else than a journal.
        """
        try:
            lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return {}
        entries, is_journal = {}, not any(line.strip() for line in lines)
        for line in lines:
            try:
                entry = json.loads(line)
                is_journal |= {"file", "size", "time"} <= set(entry)
                if self.stamp(entry["file"]).items() <= entry.items():
                    entries[entry["file"]] = entry
            except (json.JSONDecodeError, KeyError, TypeError, OSError):
                continue  # a line that was torn by a kill, or a file that went away: looked at again
        if not is_journal:
            raise ValueError(f"{self.path} is no journal of ours: delete it, or name another file")
        return entries

    @contextlib.contextmanager
    def writing(self) -> Iterator[Callable[[dict], None]]:
        """Gives a function that adds an entry."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write("\n")  # what a kill tore off ends here

            def note(entry: dict) -> None:
                file.write(json.dumps(entry) + "\n")
                file.flush()

            yield note
