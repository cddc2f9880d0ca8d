"""A stand-in for the Hugging Face hub, and for a second place of the same files, on this machine."""

import contextlib
import hashlib

import huggingface_hub
import pytest
from support.server import Handler, Local, running

#: The header by which the hub says what a status means, as huggingface_hub reads it.
CODES = {401: "RepoNotFound", 403: "GatedRepo", 404: "EntryNotFound"}


class Hub(Local):
    """Serves `files` (name -> bytes) as any repository's, at its one commit and at ``main``.

    Attributes:
        second: name -> bytes at `second_url`.
        status: the hub's answer to everything, where it is no file. second_status: the same of the second.
        etags: name -> the tag that is told of it; default: its SHA-256, as of large files.
        cuts: how many bytes to send of each body in turn before the connection ends; then all of it.
        asked: method and path of every request for a file.
        sent: (first byte, one after the last) of what was sent.
    """

    def __init__(self):
        super().__init__(_Handler)
        self.files, self.second, self.etags = {}, {}, {}
        self.status, self.second_status, self.commit = 0, 0, "c0ffee" + 34 * "0"
        self.cuts, self.asked, self.sent = [], [], []

    @property
    def second_url(self):
        return f"{self.url}/second/"


class _Handler(Handler):
    def answer(self, body):
        hub, name = self.server, self.path.rpartition("/")[2]
        if "/resolve/" not in self.path and not self.path.startswith("/second/"):
            return self.send_error(404)  # what huggingface_hub asks for purposes of its own
        hub.asked.append(f"{self.command} {self.path}")
        if self.path.startswith("/second/"):
            files, status, headers = hub.second, hub.second_status, {}
        else:
            revision = self.path.split("/resolve/")[1].split("/")[0]
            files, status, headers = hub.files, hub.status, {"X-Repo-Commit": hub.commit}
            if revision not in ("main", hub.commit):
                status, headers = 404, {"X-Error-Code": "RevisionNotFound"}
        if status or name not in files:
            self.send_response(status or 404)
            self.send_header("X-Error-Code", headers.get("X-Error-Code", CODES.get(status or 404, "")))
            self.send_header("Content-Length", "0")
            return self.end_headers()
        content, start = files[name], 0
        if wanted := self.headers.get("Range"):
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self.send_response(206 if wanted else 200)
        headers["ETag"] = f'"{hub.etags.get(name, hashlib.sha256(content).hexdigest())}"'
        headers["Content-Length"] = str(len(content) - start)
        for header, value in headers.items():
            self.send_header(header, value)
        self.end_headers()
        if body:
            piece = content[start:][: hub.cuts.pop(0) if hub.cuts else None]
            hub.sent.append((start, start + len(piece)))
            with contextlib.suppress(ConnectionError):
                self.wfile.write(piece)
        return None


@contextlib.contextmanager
def hub_instead():
    """A stand-in in place of the hub for huggingface_hub in this process, which waits for nothing."""
    hub, constants = Hub(), huggingface_hub.constants
    with running(hub), pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "ENDPOINT", hub.url)
        path = constants.HUGGINGFACE_CO_URL_TEMPLATE.split("/{", 1)[1]
        patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"{hub.url}/{{{path}")
        patch.setenv("NO_PROXY", "127.0.0.1")
        patch.setattr("time.sleep", lambda seconds: None)
        yield hub
