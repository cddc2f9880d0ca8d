"""Files of the Hugging Face hub, weights and data sets: checked, and whole or not at all.

Proxies, mirrors (``HF_ENDPOINT``), tokens, ``HF_HUB_OFFLINE``, waiting for a busy server and going on where
a transfer broke are huggingface_hub's. Here is what it leaves out: that a later call goes on as well, the
SHA-256 of what came, also where none is published, and an error in one sentence.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from liqe_core.files import atomic_path, cache_dir, file_sha256, is_disk_full, only_one, write_json


class FetchError(OSError):
    """Something could not be fetched or unpacked; the message names it and says what to do."""


class Origin(NamedTuple):
    """Where a file came from: the address, and the commit there; "" where there is none."""

    address: str
    commit: str = ""


def fetch_from_hub(
    path: str | os.PathLike[str],
    repository: str,
    file: str,
    revision: str | None = None,
    sha256: str | None = None,
    kind: str = "dataset",
    second: str = "",
    progress: bool = True,
) -> Origin | None:
    """Fetch one file of a repository of the hub, or, when that fails, from another address.

    huggingface_hub writes what comes in pieces of 10 MiB: of a transfer that breaks, the piece that was not
    whole is asked for again, and nothing before it. It gives up after six breaks in a row without a new
    piece; a later call goes on from there too, which its own `hf_hub_download` does not do: that begins anew.
    From the second address a later call begins anew.

    Args:
        path: where the file goes. One that is there with the right checksum is left as it is.
        repository: ``owner/name``.
        file: the file's path in the repository.
        revision: a commit; None: that of first sight, see `note`, else the newest.
        sha256: 64 hexadecimal digits; None: that of first sight, else the hub's own.
        kind: of the repository: ``dataset`` or ``model``.
        second: the address of the same file elsewhere.

    Returns:
        Where it came from; None where it was there already.

    Raises:
        FetchError: gated (401, 403), not there (404), throttled (429), offline, no connection, another
            content than expected, or a full disk. Only a transfer that broke leaves a part, for the next
            call.
    """
    path, source = Path(path), source_of(repository, file)
    with only_one(path, wait=-1, doing="fetching"):  # it may be there when another process has ended
        if path.is_file():
            check(path, source, sha256)
            return None
        path.parent.mkdir(parents=True, exist_ok=True)
        revision = revision or first_sight(source).get("commit") or None
        try:
            return _from_hub(path, repository, file, revision, sha256, kind, progress)
        except FetchError as error:
            if not second or is_disk_full(error.__cause__ or error):  # which no other source helps with
                raise
            failed = [str(error)]
        try:
            return _from_elsewhere(path, source, second, sha256, progress)
        except FetchError as error:
            if is_disk_full(error.__cause__ or error):
                raise
            raise FetchError(
                f"{path.name} could not be fetched. {'. '.join([*failed, str(error)])}. Or get it with a "
                f"browser, from either address, and put it at {path}"
            ) from error


def _from_hub(
    path: Path,
    repository: str,
    file: str,
    revision: str | None,
    sha256: str | None,
    kind: str,
    progress: bool,
) -> Origin:
    # It takes a while to load, and who needs nothing of the hub need not wait for it.
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.utils import build_hf_headers

    address = hf_hub_url(repository, file, repo_type=kind, revision=revision)
    source, part = source_of(repository, file), path.with_name(f".{path.name}.download")
    try:
        told = get_hf_file_metadata(address, retry_on_errors=True)
        # The hub's tag of a large file is its SHA-256: another file is refused before it is transferred.
        tag = told.etag if re.fullmatch("[0-9a-f]{64}", told.etag or "") else None
        known, since, instead = _known(source, sha256)
        if known and tag and tag != known:
            raise FetchError(
                f"{address}: checksum differs (the hub has SHA-256 {tag}, {since} {known}): another file "
                "than the known one; nothing was transferred; look whether this project was renewed, or get "
                f"the known file elsewhere{instead}"
            )
        commit = told.commit_hash or revision or ""
        address = hf_hub_url(repository, file, repo_type=kind, revision=commit or None)
        with disk_full_said_plainly(path, kept=False):
            if part.exists() and told.size is not None and part.stat().st_size > told.size:
                part.unlink()  # of another file: this one is shorter
            with part.open("ab") as content:
                _get(address, content, build_hf_headers(), told.size, path.name, progress)
        check(part, source, known or tag)
    except FetchError:
        part.unlink(missing_ok=True)
        raise
    except Exception as error:  # whatever a library of the transfer raises is why it failed
        kept = part.stat().st_size if part.is_file() else 0
        if not kept:
            part.unlink(missing_ok=True)
        page = f"https://huggingface.co/{'datasets/' if kind == 'dataset' else ''}{repository}"
        raise FetchError(f"{address}: {_why_not(error, page, kept)}") from error
    os.replace(part, path)
    return Origin(address, commit)


def _from_elsewhere(path: Path, source: str, address: str, sha256: str | None, progress: bool) -> Origin:
    try:
        with disk_full_said_plainly(path, kept=False), atomic_path(path) as part:
            with part.open("wb") as content:
                _get(address, content, {}, None, path.name, progress)
            check(part, source, sha256)
    except FetchError:
        raise
    except Exception as error:
        raise FetchError(f"{address}: {_why_not(error)}") from error
    path.with_name(f".{path.name}.download").unlink(missing_ok=True)
    return Origin(address)


def _get(
    address: str, content: Any, headers: dict[str, str], size: int | None, name: str, progress: bool
) -> None:
    """Append what an opened file still lacks."""
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils.tqdm import silent_tqdm

    http_get(
        address,
        content,
        resume_size=content.tell(),
        headers=headers | {"Accept-Encoding": "identity"},  # ranges count the bytes of the file itself
        expected_size=size,
        displayed_filename=name,
        tqdm_class=None if progress else silent_tqdm,  # type: ignore[arg-type]
    )
    content.flush()
    os.fsync(content.fileno())


def fetch_bytes(address: str, limit: int, timeout: float = 30.0) -> bytes:
    """What lies at an http or https address, in memory; proxies and certificates are huggingface_hub's.

    Args:
        limit: refuse more bytes than this.
        timeout: seconds without a byte.

    Raises:
        FetchError: it is not there, is too large, or does not come (401, 403, 404, 429, no network).
    """
    from huggingface_hub import get_session

    too_large = FetchError(f"{address}: over {limit / 1e6:g} MB; download it, and give the file")
    try:
        with get_session().stream("GET", address, timeout=timeout) as reply:
            reply.raise_for_status()
            content = bytearray()
            if int(reply.headers.get("content-length") or 0) > limit:
                raise too_large
            for piece in reply.iter_bytes():
                content += piece
                if len(content) > limit:
                    raise too_large
            return bytes(content)
    except FetchError:
        raise
    except Exception as error:  # whatever a library of the transfer raises is why it failed
        raise FetchError(f"{address}: {_why_not(error)}") from None


def _why_not(error: BaseException, page: str = "", kept: int = 0) -> str:
    """Why huggingface_hub could not transfer a file, and what to do, in a few words.

    Args:
        page: the repository's, where there is one.
        kept: bytes of it that the next call goes on from.
    """
    from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

    if isinstance(error, LocalEntryNotFoundError) and error.__cause__:
        error = error.__cause__  # that it is not in the hub's cache either is no news
    if isinstance(error, OfflineModeIsEnabled):
        return "not tried, since HF_HUB_OFFLINE is set; unset it"
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403):
        terms = f"; accept the terms on {page}, if it asks for that, then run `hf auth login` or set HF_TOKEN"
        return f"refused (HTTP {status}){f'{terms}, and try again' if page else ''}"
    if status in (404, 410):
        then = f"it was moved or removed, look on {page}" if page else "check the address"
        return f"not there (HTTP {status}); {then}"
    if status == 429:
        log_in = ", or log in (`hf auth login`)" if page else ""
        return f"too many requests (HTTP 429); wait some minutes and try again{log_in}"
    if status:
        return f"the server failed (HTTP {status}); try again later"
    said = (str(error).strip().splitlines() or [type(error).__name__])[0]
    then = f"{kept} bytes are kept, try again and it goes on from there" if kept else ""
    return f"no connection, or it broke ({said}); {then or 'check the network and try again'}"


@contextlib.contextmanager
def disk_full_said_plainly(path: Path, kept: bool = True) -> Iterator[None]:
    """A full disk, said plainly; `kept`: whether what was written until then stays."""
    try:
        yield
    except OSError as error:
        if not is_disk_full(error):
            raise
        free = shutil.disk_usage(path.parent).free
        raise FetchError(
            f"{path}: the disk is full ({free / 1e6:.0f} MB free on it); make room and run it again, what "
            f"was written is {'kept' if kept else 'removed'}"
        ) from error


def source_of(repository: str, file: str) -> str:
    """The name of a file of the hub that its checksum is kept under, and that errors say."""
    return f"{repository}/{file}"


def check(path: str | os.PathLike[str], source: str, sha256: str | None = None, keep: bool = False) -> None:
    """Compare a file with its known checksum, else with the one noted at first sight, if any.

    Args:
        path: the file.
        source: where it came from: the name that its checksum is kept under.
        sha256: the known checksum; None: what `note` kept.
        keep: leave another file where it is; else it is thrown away.

    Raises:
        FetchError: it differs.
    """
    known, since, instead = _known(source, sha256)
    if known is None or (found := file_sha256(path)) == known:
        return
    name, then = os.fspath(path), ""
    if not keep:
        Path(path).unlink()
        name = source
        then = "; what came was thrown away, fetch it again; if it stays so, the file there is another one"
    raise FetchError(f"{name}: checksum differs (SHA-256 {found}, {since} {known}){then}{instead}")


def note(
    path: str | os.PathLike[str], source: str, sha256: str | None = None, origin: Origin | None = None
) -> None:
    """Keep the checksum of a file that has none known, once it has turned out to be good."""
    if sha256 is None and not first_sight(source):
        content = {"source": source, "sha256": file_sha256(path), "bytes": Path(path).stat().st_size}
        write_json(noted_at(source), content | (origin._asdict() if origin else {}))


def first_sight(source: str) -> dict[str, Any]:
    """What `note` kept of a file, {} where nothing: `source`, `sha256`, `bytes`, and its `Origin` if told."""
    kept = noted_at(source)
    return json.loads(kept.read_text("utf-8")) if kept.is_file() else {}


def noted_at(source: str) -> Path:
    """Where that is kept."""
    return cache_dir("checksums") / f"{hashlib.sha256(source.encode()).hexdigest()[:16]}.json"


def _known(source: str, sha256: str | None) -> tuple[str | None, str, str]:
    """The checksum that a file should have, since when, and what to do to have another one."""
    if sha256 or not (noted := first_sight(source)):
        return sha256, "expected", ""
    return (
        noted["sha256"],
        "at first sight here",
        f"; if you mean to have the new one, delete {noted_at(source)}",
    )
