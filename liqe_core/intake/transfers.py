"""Downloads from the Hugging Face hub or a URL, resumed after an interruption and checked by SHA-256.

All transfers use huggingface_hub, with its proxies, mirrors (``HF_ENDPOINT``), tokens and
``HF_HUB_OFFLINE``. Its `hf_hub_download` restarts a killed transfer from the beginning. This module keeps the
partial file instead and continues it: with hf_xet over several connections for files in the hub's chunked
storage (unless ``HF_HUB_DISABLE_XET`` is set), or with `http_get` for other files and if hf_xet fails.
"""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import hashlib
import os
import socket
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from liqe_core.files import file_sha256, is_disk_full, mistaken, only_one
from liqe_core.intake.progress import tqdm


class FetchError(OSError):
    """Raised if a file cannot be downloaded or unpacked. The message names it and says what to do."""


class DiskFullError(FetchError):
    """Raised if the disk is full."""


class NoChunksError(Exception):
    """Raised if a download from the hub's chunked storage is unavailable or incomplete."""


@dataclasses.dataclass(frozen=True)
class RemoteFile:
    """A file at a URL.

    Attributes:
        url: the address of the file.
        sha256: 64 hexadecimal digits; None: use the checksum from the hub if there is one.
        page: page of its repository on the Hugging Face hub; empty for other URLs.
    """

    url: str
    sha256: str | None = None
    page: str = ""


def hub_file(
    repository: str, file: str, revision: str | None = None, sha256: str | None = None, kind: str = "dataset"
) -> RemoteFile:
    """Return a file on the Hugging Face hub.

    Args:
        repository: ``owner/name``.
        revision: a commit; None: the newest.
        kind: type of the repository, ``dataset`` or ``model``.
    """
    from huggingface_hub import hf_hub_url  # slow to import

    page = f"https://huggingface.co/{'datasets/' if kind == 'dataset' else ''}{repository}"
    return RemoteFile(hf_hub_url(repository, file, repo_type=kind, revision=revision), sha256, page)


def fetch_file(source: RemoteFile, path: str | os.PathLike[str], progress: bool = True) -> str:
    """Download a file. `path` is created only when the file is complete and its checksum is correct.

    An interrupted transfer is continued up to five times, and by a later call, even after a kill.

    Returns:
        The URL of the download, with the commit for a file on the hub. Empty if the file already exists, with
        the correct checksum if one is known.

    Raises:
        FetchError: if access is denied (401, 403), the file is not found (404), there are too many requests
            (429), there is no connection, or the content is not as expected.
        DiskFullError: if the disk is full.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.{hashlib.sha256(source.url.encode()).hexdigest()[:8]}.download")
    with only_one(path, wait=-1, doing="fetching"):
        if path.is_file() and (source.sha256 is None or file_sha256(path) == source.sha256):
            return ""
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with disk_full_as_error(path):
                url, sha256 = _transfer(source, part, path.name, progress)
        except FetchError:
            raise
        except Exception as error:  # libraries below huggingface_hub raise errors of their own
            bytes_kept = part.stat().st_size if part.is_file() else 0
            if not bytes_kept:
                part.unlink(missing_ok=True)
            raise FetchError(f"{source.url}: {_reason(error, source.page, bytes_kept)}") from error
        if sha256 and (found := file_sha256(part)) != sha256:
            with part.open("rb") as content:
                mistake = mistaken(content.read(512))
            part.unlink()
            advice = f"it is {mistake}" if mistake else "the file was deleted; try again, or get it elsewhere"
            raise FetchError(f"{url}: checksum differs (SHA-256 {found}, expected {sha256}); {advice}")
        os.replace(part, path)
        for leftover in path.parent.glob(f".{glob.escape(path.name)}.*.download"):
            leftover.unlink()  # from another URL of the same file
    return url


def _transfer(source: RemoteFile, part: Path, name: str, progress: bool) -> tuple[str, str | None]:
    """Download the missing bytes of a partial file.

    Returns:
        The URL with the commit, and the expected checksum.
    """
    from huggingface_hub import get_hf_file_metadata, get_session
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers
    from huggingface_hub.utils.tqdm import silent_tqdm

    if not (urllib.request.getproxies() or os.environ.get("HF_HUB_OFFLINE")):
        # Fails at once without a network, where huggingface_hub would retry for half a minute with a log line
        # for each attempt.
        socket.getaddrinfo(urllib.parse.urlsplit(source.url).hostname, None)
    url, sha256, size, chunked = source.url, source.sha256, None, None
    headers = {"Accept-Encoding": "identity"}  # ranges must count the bytes of the uncompressed file
    if source.page:
        metadata = get_hf_file_metadata(url, retry_on_errors=True)
        url = url.replace("/resolve/main/", f"/resolve/{metadata.commit_hash or 'main'}/")
        size, headers, chunked = metadata.size, build_hf_headers() | headers, metadata.xet_file_data
        if len(metadata.etag or "") == 64:  # the ETag of a large file is its SHA-256
            if sha256 not in (None, metadata.etag):
                raise FetchError(f"{url}: checksum differs (expected {sha256}): it was replaced; update liqe")
            sha256 = metadata.etag
        if part.exists() and size is not None and part.stat().st_size > size:
            part.unlink()  # of another file
    hooks = get_session().event_hooks["response"]
    if _refuse_downgrade not in hooks:
        hooks.append(_refuse_downgrade)
    with part.open("ab") as content:
        bar: Any = tqdm if progress else silent_tqdm
        if chunked and size:
            start, unit = content.tell(), {"unit": "B", "unit_scale": True}
            with (
                contextlib.suppress(NoChunksError),
                bar(desc=name, total=size, initial=start, **unit) as moved,
            ):
                for piece in _chunks(chunked, headers, size, start):
                    content.write(piece)
                    moved.update(len(piece))
        try:
            shown: Any = {"expected_size": size, "displayed_filename": name, "tqdm_class": bar}
            http_get(url, content, resume_size=content.tell(), headers=headers, **shown)
        except HfHubHTTPError as error:
            # the partial file is complete or too long, which its checksum decides
            if error.response.status_code != 416:
                raise
        content.flush()
        os.fsync(content.fileno())
    return url, sha256


def _chunks(file: Any, headers: dict[str, str], size: int, start: int) -> Iterator[bytes]:
    """Yield the bytes of a file in the hub's chunked storage from `start` on, in order."""
    try:
        from hf_xet import XetFileInfo  # type: ignore[import-untyped]
        from huggingface_hub import constants
        from huggingface_hub.utils import _xet

        if constants.HF_HUB_DISABLE_XET or start >= size:
            return
        access = _xet.refresh_xet_connection_info(file_data=file, headers=headers)
        group = _xet.get_xet_session().new_download_stream_group(
            endpoint=access.endpoint,
            token=access.access_token,
            token_expiry_unix_secs=access.expiration_unix_epoch,
            token_refresh_url=file.refresh_route,
            token_refresh_headers=headers,
            custom_headers=_xet.xet_headers_without_auth(headers),
        )
        # Another thread reads, because a signal does not interrupt a wait within hf_xet.
        with ThreadPoolExecutor(1) as reader, group:
            stream = group.download_stream(XetFileInfo(file.file_hash, size), start=start)
            try:
                while piece := reader.submit(next, stream, b"").result():
                    yield piece
            except BaseException:
                _xet.abort_xet_session()  # ends the wait of the thread
                raise
    except Exception as error:  # also if the packages have another version
        raise NoChunksError(str(error)) from error


def _refuse_downgrade(response: Any) -> None:
    """Reject a redirection from https to http; a hook for the session of huggingface_hub."""
    target = urllib.parse.urljoin(str(response.url), response.headers.get("location", ""))
    if response.url.scheme == "https" and urllib.parse.urlsplit(target).scheme == "http":
        raise FetchError(f"{response.url}: redirects to {target}, not https; download the file by hand")


def fetch_bytes(url: str, limit: int, timeout: float = 30.0, total: float = 300.0) -> bytes:
    """Download a small file into memory.

    Args:
        limit: maximum number of bytes.
        timeout: maximum seconds without data.
        total: maximum seconds in total.

    Raises:
        FetchError: if the file is too large, or for a reason of `fetch_file`.
    """
    from huggingface_hub import get_session

    deadline = time.monotonic() + total
    try:
        with get_session().stream("GET", url, timeout=timeout) as reply:
            reply.raise_for_status()
            content = bytearray()
            for chunk in reply.iter_bytes():
                content += chunk
                if len(content) > limit:
                    raise FetchError(f"{url}: over {limit / 1e6:g} MB; download it and give the path")
                if time.monotonic() > deadline:
                    raise FetchError(f"{url}: not read in {total:g} seconds; download it and give the path")
            return bytes(content)
    except FetchError:
        raise
    except Exception as error:  # libraries below huggingface_hub raise errors of their own
        raise FetchError(f"{url}: {_reason(error)}") from None


def _reason(error: BaseException, page: str = "", bytes_kept: int = 0) -> str:
    """Describe why a transfer failed and what to do. `bytes_kept` is the size of the partial file."""
    if status := getattr(getattr(error, "response", None), "status_code", None):
        reasons = dict.fromkeys((404, 410), f"not found; check {page or 'the page that links to the file'}")
        reasons[429] = "too many requests; wait some minutes, or log in (`hf auth login`)"
        login = f"; accept the terms on {page} if it asks, run `hf auth login` or set HF_TOKEN, and try again"
        reasons |= dict.fromkeys((401, 403), f"access denied{login if page else ''}")
        return f"HTTP {status}, {reasons.get(status, 'the server failed; try again later')}"
    problem = (str(error).strip().splitlines() or [type(error).__name__])[0]
    advice = f"{bytes_kept} bytes are kept, try again to continue" if bytes_kept else "check the network"
    return f"no connection, or it was interrupted ({problem}); {advice}"


@contextlib.contextmanager
def disk_full_as_error(path: Path) -> Iterator[None]:
    """Convert the system error for a full disk to a `DiskFullError` that names `path`."""
    try:
        yield
    except OSError as error:
        if not is_disk_full(error):
            raise
        raise DiskFullError(f"{path}: the disk is full; free some space and try again") from error
