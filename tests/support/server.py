"""A web server of this machine with the faults that real ones have."""

import contextlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Local(ThreadingHTTPServer):
    """A server at a free port of this machine."""

    daemon_threads = True

    def __init__(self, handler):
        super().__init__(("127.0.0.1", 0), handler)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    """Answers HEAD and GET by `answer(body)`, and logs nothing."""

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def log_message(self, *args):
        pass


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


class Faulty(Local):
    """Serves `files` (path -> bytes).

    Attributes:
        cut: send at most this many bytes of a body, this many times (`cuts`).
        busy: answer 503 this many times first.
        ranges: whether Range is understood.
        html: send every body as text/html.
        pace: seconds between chunks of 16 KiB.
        asked: (path, Range header) of every request.
    """

    def __init__(self, files):
        super().__init__(_Handler)
        self.files = {f"/{name}": body for name, body in files.items()}
        self.cut, self.cuts, self.busy, self.ranges, self.html, self.pace = 0, 0, 0, True, False, 0.0
        self.asked = []

    @property
    def url(self):
        return f"{super().url}/"


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server, wanted = self.server, self.headers.get("Range")
        server.asked.append((self.path, wanted))
        if server.busy:
            server.busy -= 1
            return self.send_error(503)
        if self.path not in server.files:
            return self.send_error(404)
        body, start = server.files[self.path], 0
        if wanted and server.ranges:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            if start >= len(body):
                return self.send_error(416)
        piece = body[start:]
        if (
            server.cuts
        ):  # before the headers: with them a client may have all, and its test go on and set this
            server.cuts -= 1
            piece = piece[: server.cut]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Length", str(len(body) - start))
        self.send_header("Content-Type", "text/html" if server.html else "application/octet-stream")
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            for at in range(0, len(piece), 16384):
                self.wfile.write(piece[at : at + 16384])
                if server.pace:
                    self.wfile.flush()
                    threading.Event().wait(server.pace)
        return None

    def log_message(self, *args):
        pass


def serving(files):
    return running(Faulty(files))
