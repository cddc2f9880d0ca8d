"""Downloads that can be trusted: checked, atomic, resumed where they broke off, and clear when they fail."""

from __future__ import annotations

import http.client
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from liqe_core.files import file_sha256, is_web_page, only_one
from liqe_core.intake.hub import FetchError, check, disk_full_said_plainly
from liqe_core.intake.progress import tqdm

_CHUNK = 1 << 20


def download(
    url: str,
    path: str | os.PathLike[str],
    sha256: str | None = None,
    retries: int = 4,
    timeout: float = 30.0,
    pause: float = 1.0,
    progress: bool = True,
) -> Path:
    """Fetch one file over HTTPS.

    The transfer goes to ``.NAME.download`` beside `path`, which a later call continues; `path` appears only
    when every byte is there and the checksum is right.

    Args:
        url: https (plain http is taken for this machine only).
        path: where the file goes; one with the right checksum is left as it is.
        sha256: 64 hexadecimal digits; None: length is all that is checked.
        retries: how often to go on after a broken transfer or a busy server.
        timeout: seconds without a byte.
        pause: seconds before the first retry, doubled each time.

    Returns:
        `path`.

    Raises:
        FetchError: no such file there (404), an HTML page in place of the file, a wrong checksum, a transfer
            that keeps breaking, or a full disk.
        BusyError: another process is fetching the same file.
    """
    path = Path(path)
    _refuse_insecure(url)
    if path.is_file() and sha256 and file_sha256(path) == sha256:
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.download")
    with only_one(path, doing="fetching"), disk_full_said_plainly(path):
        for attempt in range(retries + 1):
            try:
                _transfer(url, part, path.name, timeout, progress)
                break
            except _GoOn as broken:
                if attempt == retries:
                    have = part.stat().st_size if part.exists() else 0
                    raise FetchError(
                        f"{url}: {broken} ({attempt + 1} tries, {have} bytes kept); "
                        "try again later, it goes on from there"
                    ) from broken
                time.sleep(pause * 2**attempt)
        check(part, url, sha256)
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    return path


class _GoOn(Exception):
    """The transfer broke; what came is kept and the next try continues."""


def _transfer(url: str, part: Path, name: str, timeout: float, progress: bool) -> None:
    have = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "liqe-core", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout) as reply:
            _refuse_insecure(reply.url)  # it may have been sent elsewhere
            if reply.status == 206 and reply.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
                mode = "ab"
            else:
                mode, have = "wb", 0  # the server sends all of it again
            length = reply.headers.get("Content-Length")
            total = have + int(length) if length else None
            with (
                part.open(mode) as file,
                tqdm(
                    desc=name, initial=have, total=total, unit="B", unit_scale=True, disable=not progress
                ) as bar,
            ):
                while chunk := reply.read(_CHUNK):
                    if file.tell() == 0:
                        _refuse_html(url, name, chunk, reply.headers.get("Content-Type", ""))
                    file.write(chunk)
                    bar.update(len(chunk))
                got = file.tell()
            if total is not None and got < total:
                raise _GoOn(f"the transfer was cut at {got} of {total} bytes")
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # the part is as long as the file, or longer: begin again
            part.unlink()
            raise _GoOn("the server has fewer bytes than were kept") from None
        if error.code in (404, 410):
            raise FetchError(
                f"{url}: not there (HTTP {error.code}); the address is out of date, look on its page"
            ) from None
        if error.code in (401, 403):
            raise FetchError(
                f"{url}: refused (HTTP {error.code}); fetch it by hand, it may need registration"
            ) from None
        if error.code < 500 and error.code not in (408, 425, 429):
            raise FetchError(f"{url}: HTTP {error.code} {error.reason}") from None
        raise _GoOn(f"HTTP {error.code} {error.reason}") from None
    except http.client.IncompleteRead as error:
        raise _GoOn(f"the transfer was cut ({error.expected} bytes missing)") from None
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        raise _GoOn(f"no connection, or it broke ({getattr(error, 'reason', error)})") from None


def _refuse_insecure(url: str) -> None:
    address = urllib.parse.urlsplit(url)
    local = address.scheme == "http" and address.hostname in ("127.0.0.1", "localhost")
    if address.scheme != "https" and not local:
        raise FetchError(f"{url}: only https is taken")


def _refuse_html(url: str, name: str, start: bytes, content_type: str) -> None:
    if Path(name).suffix.lower() in (".html", ".htm"):
        return
    if content_type.startswith("text/html") or is_web_page(start):
        raise FetchError(
            f"{url}: the server sent a web page, not {name} (a login, a consent or an error page); "
            "open the address in a browser and save the file by hand"
        )
