"""What is known of the files of a data set, noted while it is found out, so that a kill loses little."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

from liqe_core.files import cache_dir
from liqe_core.manifests import Manifest


class Journal:
    """A line of JSON for each file that was looked at, with its size and time then.

    Args:
        folder: the data set's; each folder has a journal of its own.
    """

    def __init__(self, manifest: Manifest, folder: Path):
        self.folder = folder
        tag = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:8]
        self.path = cache_dir("verify") / f"{manifest.name}-{tag}.jsonl"

    def current(self) -> dict[str, dict]:
        """The entries whose files have not changed since."""
        try:
            lines = self.path.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return {}
        entries = {}
        for line in lines:
            try:
                entry = json.loads(line)
                stat = (self.folder / entry["file"]).stat()
                if (stat.st_size, stat.st_mtime_ns) == (entry["size"], entry["time"]):
                    entries[entry["file"]] = entry
            except (json.JSONDecodeError, KeyError, TypeError, OSError):
                continue  # a line that was torn by a kill, or a file that went away: looked at again
        return entries

    @contextlib.contextmanager
    def writing(self) -> Iterator[Callable[[dict], None]]:
        """Gives a function that adds an entry."""
        with self.path.open("a", encoding="utf-8", buffering=1) as file:
            file.write("\n")  # what a kill tore off ends here

            def note(entry: dict) -> None:
                file.write(json.dumps(entry) + "\n")

            yield note
