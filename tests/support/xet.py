"""The hub's chunked storage (Xet), as far as hf_xet needs it to transfer one file."""

import hashlib
import json
import threading

from support.server import Handler

#: Bytes of a block, which are transferred side by side; each has one chunk here.
BLOCK = 40_000


def headers_of(content: bytes, url: str) -> dict[str, str]:
    """What the hub adds about a file that is in the chunked storage."""
    digest = hashlib.sha256(content).hexdigest()
    return {"X-Xet-Hash": digest, "X-Xet-Refresh-Route": f"{url}/xet/token"}


def stored(content: bytes, number: int) -> bytes:
    """A stored block: its two lengths, then its uncompressed chunk."""
    chunk = content[number * BLOCK :][:BLOCK]
    length = b"\0" + len(chunk).to_bytes(3, "little")
    return length + length + chunk


def plan(content: bytes, first: int, last: int, url: str) -> dict:
    """Which blocks make up the bytes of a file from `first` to `last`."""
    terms, places, chunks = [], {}, {"start": 0, "end": 1}
    for number in range(first // BLOCK, last // BLOCK + 1):
        name, size = f"{number:064x}", len(stored(content, number))
        terms.append({"hash": name, "unpacked_length": size - 8, "range": chunks})
        place = {"url": f"{url}/block/{number}", "url_range": {"start": 0, "end": size - 1}}
        places[name] = [{"range": chunks} | place]
    return {"offset_into_first_range": first % BLOCK, "terms": terms, "fetch_info": places}


class XetHandler(Handler):
    """Answers for the server's one file. Notes in its `blocks` the number of each block asked for, and in
    its `answered`, for each that is answered, how many had been asked for."""

    def do_GET(self):
        if not self.path.startswith("/xet/"):
            return super().do_GET()
        server, url, kind = self.server, f"{self.server.url}/xet", self.path.split("/")[2]
        first, last = map(int, self.headers.get("Range", "bytes=0-0").removeprefix("bytes=").split("-"))
        (content,), body, headers = server.files.values(), b"", {}
        if kind == "token":
            headers = {"Cas-Url": url, "Access-Token": "t", "Token-Expiration": "9999999999"}
        elif kind == "v1":
            body = json.dumps(plan(content, first, last, url)).encode()
        elif kind == "block" and not server.broken:
            server.blocks.append(int(self.path.rpartition("/")[2]))
            threading.Event().wait(server.pace)
            server.answered.append(len(server.blocks))
            body = stored(content, int(self.path.rpartition("/")[2]))
        else:
            return self.send_error(404)
        self.send_response(206 if kind == "block" else 200)
        for header, value in headers.items():
            self.send_header(f"X-Xet-{header}", value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        return None
