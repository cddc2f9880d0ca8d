"""A web server of this machine with the faults that real ones have."""

import contextlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple


class Request(NamedTuple):
    """A request for a file."""

    method: str
    path: str
    range: str | None
    authorization: str | None


class FileServer(ThreadingHTTPServer):
    """Serve `files` (path -> bytes) on a free local port.

    Attributes:
        cuts: the numbers of bytes of the next bodies before the connection ends; later bodies are complete.
        ranges: whether the server supports Range.
        pace: seconds between chunks of 16 KiB.
        asked: all requests for a file. sent: (first byte, last byte + 1) of every body.
    """

    daemon_threads = True

    def __init__(self, files, handler=None):
        super().__init__(("127.0.0.1", 0), handler or Handler)
        self.files = files
        self.cuts, self.ranges, self.pace = [], True, 0.0
        self.asked, self.sent = [], []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/"

    def find(self, path):
        """The content at a path (None: the request is not counted), the status, and headers of its own."""
        content = self.files.get(path.lstrip("/"))
        return content or b"", 404 if content is None else 0, {}


class Handler(BaseHTTPRequestHandler):
    """Answers HEAD and GET, and logs nothing."""

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def log_message(self, *args):
        pass

    def answer(self, body):
        server, wanted, start = self.server, self.headers.get("Range"), 0
        content, status, headers = server.find(self.path)
        if content is None:
            return self.send_error(status)
        server.asked.append(Request(self.command, self.path, wanted, self.headers.get("Authorization")))
        content = b"" if status else content
        if wanted and server.ranges and not status:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            if start >= len(content):
                return self.send_error(416)
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        piece = b""
        if body and not status:  # before the headers: with them a client may have all, and its test go on
            piece = content[start:][: server.cuts.pop(0) if server.cuts else None]
            server.sent.append((start, start + len(piece)))
        self.send_response(status or (206 if start else 200))
        for header, value in (headers | {"Content-Length": len(content) - start}).items():
            self.send_header(header, str(value))
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            for at in range(0, len(piece), 16384):
                self.wfile.write(piece[at : at + 16384])
                if server.pace:
                    self.wfile.flush()
                    threading.Event().wait(server.pace)
        return None


@contextlib.contextmanager
def running(server):
    """The server, answering for the length of the block."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def serving(files):
    return running(FileServer(files))
