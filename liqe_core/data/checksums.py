"""Is a file the one that it should be: by a known SHA-256, or by the one that it had at first sight."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from liqe_core.data.downloads import DamagedArchiveError
from liqe_core.files import cache_dir, file_sha256, write_json


def check(path: str | os.PathLike, source: str, sha256: str | None = None) -> None:
    """Compare a fetched file with its known checksum, else with the one noted at first sight, if any.

    Args:
        path: the file; thrown away when it is another one.
        source: where it came from: the name that its checksum is kept under, in the cache folder.
        sha256: the known checksum; None: what `note` kept.

    Raises:
        DamagedArchiveError: it differs.
    """
    path, kept = Path(path), noted_at(source)
    known = sha256 or (json.loads(kept.read_text("utf-8"))["sha256"] if kept.is_file() else None)
    if known is None or (found := file_sha256(path)) == known:
        return
    path.unlink()
    since, other = "expected", ""
    if not sha256:
        since, other = "at first sight here", f"; if you mean to have the new one, delete {kept}"
    raise DamagedArchiveError(
        f"{source}: checksum differs (SHA-256 {found}, {since} {known}); what came was thrown away, fetch it "
        f"again; if it stays so, the file on the server is another one{other}"
    )


def note(path: str | os.PathLike, source: str, sha256: str | None = None) -> None:
    """Keep the checksum of a file that has none known, once it has turned out to be good."""
    kept = noted_at(source)
    if sha256 is None and not kept.is_file():
        content = {"source": source, "sha256": file_sha256(path), "bytes": Path(path).stat().st_size}
        write_json(kept, content)


def noted_at(source: str) -> Path:
    """Where the checksum of a file without a known one is kept."""
    return cache_dir("checksums") / f"{hashlib.sha256(source.encode()).hexdigest()[:16]}.json"
