"""What was found out of the files in a folder, noted while it is found out, so that a kill loses little."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from liqe_core.files import write_text


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
                is_journal |= list(entry) == ["about"]
                is_journal |= {"file", "size", "time"} <= set(entry)
                if self.stamp(entry["file"]).items() <= entry.items():
                    entries[entry["file"]] = entry
            except (json.JSONDecodeError, KeyError, TypeError, OSError):
                continue  # a line that was torn by a kill, or a file that went away: looked at again
        if not is_journal:
            raise ValueError(f"{self.path} is no journal of ours: delete it, or name another file")
        return entries

    def about(self) -> dict:
        """What all entries are about, as `writing` was told when the journal was begun; empty where it was
        told nothing, or there is no journal."""
        try:
            with self.path.open(encoding="utf-8", errors="replace") as file:
                first = json.loads(file.readline())
        except (FileNotFoundError, json.JSONDecodeError):
            return {}
        return first["about"] if isinstance(first, dict) and list(first) == ["about"] else {}

    @contextlib.contextmanager
    def writing(self, about: dict | None = None) -> Iterator[Callable[..., None]]:
        """Gives a function that adds entries: those of one call in one write, as far as the system does so.

        Args:
            about: what a new journal begins with; see `about`.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if about is not None and not self.path.exists():
            write_text(
                self.path, json.dumps({"about": about}) + "\n"
            )  # never torn: it is what the rest hangs on
        with self.path.open("a", encoding="utf-8") as file:
            file.write("\n")  # what a kill tore off ends here

            def note(*entries: dict) -> None:
                file.write("".join(json.dumps(entry) + "\n" for entry in entries))
                file.flush()

            yield note
