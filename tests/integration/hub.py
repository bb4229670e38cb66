"""A hub for datasets on this machine: the few requests by which files are listed and read, and nothing else."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import xxhash

Entry = dict[str, object]
_NAME = "org/name"
_API = f"/api/datasets/{_NAME}"
_FILES = f"/datasets/{_NAME}/resolve/main/"


class Hub(ThreadingHTTPServer):
    """Holds the files of the dataset `org/name`, at its revision `main`."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def entries(self, folder: str, recursive: bool) -> list[Entry]:
        """What is in a folder."""
        above = f"{folder}/" if folder else ""
        found: dict[str, Entry] = {}
        for path in self.files:
            parts = path.removeprefix(above).split("/")
            if path.startswith(above):
                for depth in range(1, len(parts) + 1 if recursive else 2):
                    below = above + "/".join(parts[:depth])
                    found[below] = self.entry(below)
        return list(found.values())

    def entry(self, path: str) -> Entry:
        """A file or folder."""
        if path not in self.files:
            return {"type": "directory", "path": path, "oid": "0" * 40, "size": 0}
        content = self.files[path]
        oid = xxhash.xxh3_128_hexdigest(content).zfill(40)
        return {"type": "file", "path": path, "oid": oid, "size": len(content)}


class _Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        place, query = urlsplit(self.path)[2:4]
        path = unquote(place)
        if path in (_API, f"{_API}/revision/main"):
            self._json({"id": _NAME, "sha": "c" * 40, "private": False, "tags": [], "siblings": []})
        elif path.startswith(f"{_API}/tree/main"):
            entries = self.server.entries(path.removeprefix(f"{_API}/tree/main").strip("/"), "recursive=true" in query)
            self._json(entries) if entries else self._missing("EntryNotFound")
        elif path.removeprefix(_FILES) in self.server.files:
            self._content(self.server.files[path.removeprefix(_FILES)])
        else:
            self._missing("RepoNotFound")

    do_HEAD = do_GET

    def do_POST(self) -> None:
        """Asks for some paths: as JSON, or as a form."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        asked = json.loads(body) if body.startswith(b"{") else parse_qs(body.decode())
        known = (self.server.entry(path) for path in asked["paths"])
        self._json([one for one in known if one["type"] == "file" or self.server.entries(str(one["path"]), False)])

    def _content(self, content: bytes) -> None:
        asked = self.headers.get("Range")
        head = {"ETag": '"1"', "X-Repo-Commit": "c" * 40, "Accept-Ranges": "bytes"}
        if asked:
            start, _, end = asked.removeprefix("bytes=").partition("-")
            part = content[int(start) : int(end or len(content)) + 1]
            head["Content-Range"] = f"bytes {start}-{int(start) + len(part) - 1}/{len(content)}"
            content = part
        self._send(206 if asked else 200, content, head)

    def _json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _missing(self, code: str) -> None:
        self._send(404, b"", {"X-Error-Code": code})

    def _send(self, status: int, body: bytes, head: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**head, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *words: object) -> None:
        pass
