"""Files of the Hugging Face hub's data sets, checked, and whole or not at all.

Proxies, mirrors (``HF_ENDPOINT``), tokens, ``HF_HUB_OFFLINE``, waiting for a busy server and going on where
a transfer broke are huggingface_hub's. Here is what it leaves out: that a later call goes on as well, the
SHA-256 of what came, and an error in one sentence.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from liqe_core.data.checksums import check
from liqe_core.data.downloads import FetchError, disk_full_said_plainly
from liqe_core.files import only_one, transfer_fault


def fetch_from_hub(
    path: str | os.PathLike,
    repository: str,
    file: str,
    revision: str | None = None,
    sha256: str | None = None,
    progress: bool = True,
) -> Path:
    """Fetch one file of a data set repository.

    huggingface_hub writes what comes in pieces of 10 MiB: of a transfer that breaks, the piece that was not
    whole is asked for again, and nothing before it. It gives up after six breaks in a row without a new
    piece; a later call goes on from there too, which its own `hf_hub_download` does not do: that begins anew.

    Args:
        path: where the file goes. One that is there with the right checksum is left as it is.
        repository: ``owner/name``.
        file: the file's path in the repository.
        revision: a commit; None: the newest.
        sha256: 64 hexadecimal digits; None: that of first sight, see `checksums.note`.

    Returns:
        `path`.

    Raises:
        FetchError: gated (401, 403), not there (404), throttled (429), offline, no connection, another
            content than expected, or a full disk. Only a transfer that broke leaves a part, for the next
            call.
        BusyError: another process is fetching the same file.
    """
    path = Path(path)
    source = source_of(repository, file)
    if path.is_file():
        check(path, source, sha256)
        return path
    # It takes a while to load, and who needs nothing of the hub need not wait for it.
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers
    from huggingface_hub.utils.tqdm import silent_tqdm

    address = hf_hub_url(repository, file, repo_type="dataset", revision=revision)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.download")
    with only_one(path, doing="fetching"):
        try:
            told = get_hf_file_metadata(address, retry_on_errors=True)
            _refuse_another(address, told.etag, sha256)
            with disk_full_said_plainly(part, kept=False):
                if part.exists() and told.size is not None and part.stat().st_size > told.size:
                    part.unlink()  # of another file: this one is shorter
                with part.open("ab") as content:
                    http_get(
                        address,
                        content,
                        resume_size=content.tell(),
                        # Ranges count the bytes of the file itself.
                        headers=build_hf_headers(headers={"Accept-Encoding": "identity"}),
                        expected_size=told.size,
                        displayed_filename=path.name,
                        tqdm_class=None if progress else silent_tqdm,  # type: ignore[arg-type]
                    )
                    content.flush()
                    os.fsync(content.fileno())
        except FetchError:
            part.unlink(missing_ok=True)
            raise
        except Exception as error:  # whatever a library of the transfer raises is why it failed
            kept = part.stat().st_size if part.is_file() else 0
            if not kept:
                part.unlink(missing_ok=True)
            raise FetchError(f"{address}: {_why_not(error, repository, kept)}") from error
        check(part, source, sha256)
        os.replace(part, path)
    return path


def source_of(repository: str, file: str) -> str:
    """The name of a file of the hub that its checksum is kept under, and that errors say."""
    return f"{repository}/{file}"


def _refuse_another(address: str, etag: str | None, sha256: str | None) -> None:
    """The hub's tag of a large file is its SHA-256: another file is refused before it is transferred."""
    if sha256 and etag and re.fullmatch("[0-9a-f]{64}", etag) and etag != sha256:
        raise FetchError(
            f"{address}: checksum differs (the hub has SHA-256 {etag}, expected {sha256}): another file than "
            "the one that this project knows; nothing was transferred; look whether the project's manifest "
            "was renewed, or get the known file elsewhere"
        )


def _why_not(error: BaseException, repository: str, kept: int) -> str:
    """Why a transfer failed, and what to do, in a few words."""
    page = f"https://huggingface.co/datasets/{repository}"
    later = "; fetch again later"
    goes_on = f"; {kept} bytes are kept, fetch again and it goes on from there"
    to_do = {
        "refused": f"; accept the terms on {page}, if it asks for that, then run `hf auth login`, or set "
        "HF_TOKEN, and fetch again",
        "absent": f"; it was moved or removed, look on {page}",
        "throttled": "; wait some minutes and fetch again, or log in (`hf auth login`)",
        "server": later,
        "broken": goes_on if kept else later,
    }
    kind, what = transfer_fault(error)
    return what + to_do.get(kind, "")
