"""Where the six training sets' label files come from: a clone on this machine, or fetched once and kept.

The project does not vendor them. Every file is pinned by the SHA-256 of commit a64655f of zwx8981/LIQE.
"""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm.auto import tqdm

from liqe_core.fetch import download
from liqe_core.files import cache_dir
from liqe_core.manifests import manifest_dir
from liqe_core.tables import LabelError

COMMIT = "a64655f7b84b9543b513394472851884cde5b257"
BASE_URL = f"https://raw.githubusercontent.com/zwx8981/LIQE/{COMMIT}/"


def pins() -> dict[str, str]:
    """Path in the repository -> SHA-256, of the 180 label files."""
    path = manifest_dir() / "labels.sha256"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise LabelError(f"{path}: not there; it comes with the checkout (git restore it)") from None
    return {name: digest for digest, name in (line.split("  ", 1) for line in lines if line)}


def label_folder(mirror: str | os.PathLike | None = None) -> Path:
    """The folder that holds ``IQA_Database/*/splits2``, every file in it as at the pinned commit.

    Args:
        mirror: a clone; default ``$LIQE_LABELS``; without either, the cache, filled by `fetch_labels`.

    Raises:
        LabelError: not a clone, or a file there differs from the pinned one.
        FetchError: files cannot be fetched.
    """
    mirror = mirror or os.environ.get("LIQE_LABELS")
    if not mirror:
        return fetch_labels()
    folder = Path(mirror).expanduser()
    folder = folder.parent if folder.name == "IQA_Database" else folder
    if not (folder / "IQA_Database").is_dir():
        raise LabelError(f"{mirror}: not a clone of zwx8981/LIQE (no folder IQA_Database in it)")
    for name, digest in pins().items():
        if (folder / name).is_file() and not _matches(folder / name, digest):
            raise LabelError(
                f"{folder / name}: differs from commit {COMMIT[:7]} of zwx8981/LIQE (SHA-256); "
                "check that commit out, or leave the mirror away to fetch it"
            )
    return folder


def labels_at_hand(mirror: str | os.PathLike | None = None) -> bool:
    """Whether the label files can be read without fetching any."""
    if mirror or os.environ.get("LIQE_LABELS"):
        return True
    folder = cache_dir("labels", COMMIT[:7])
    return all((folder / name).is_file() for name in pins())


def fetch_labels(
    folder: str | os.PathLike | None = None, base_url: str = BASE_URL, progress: bool = True
) -> Path:
    """Fetch the label files that are not there yet, checked and one by one, so that a broken run goes on.

    Args:
        folder: where to; default: in the cache.
        base_url: a mirror of the repository's raw files.

    Returns:
        The folder, complete.

    Raises:
        FetchError: the network or the server fails; what was fetched stays.
    """
    folder = Path(folder) if folder else cache_dir("labels", COMMIT[:7])
    missing = {n: d for n, d in pins().items() if not ((folder / n).is_file() and _matches(folder / n, d))}
    if not missing:
        return folder
    with ThreadPoolExecutor(8) as pool:
        jobs = [
            pool.submit(download, base_url + name, folder / name, sha256=digest, progress=False)
            for name, digest in missing.items()
        ]
        try:
            for job in tqdm(jobs, desc="label files", unit="file", disable=not progress):
                job.result()
        finally:
            pool.shutdown(cancel_futures=True)  # one failure is enough to stop
    return folder


def _matches(path: Path, digest: str) -> bool:
    raw = path.read_bytes()
    # A clone made on Windows may have other line ends.
    return digest in (
        hashlib.sha256(raw).hexdigest(),
        hashlib.sha256(raw.replace(b"\r\n", b"\n")).hexdigest(),
    )
