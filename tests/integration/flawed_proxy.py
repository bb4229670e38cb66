"""An HTTP proxy on this machine whose answers fail as the tests say."""

import http.client
import socket
import struct
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import urlsplit

Flaw = Literal["busy", "refused", "truncated", "flipped", "forged", "reset", "silent"]


class FlawedProxy:
    """Hands requests on to a server; the answers to some get worse on their way."""

    def __init__(self, upstream: str) -> None:
        """Listen on a free port."""
        self.upstream = urlsplit(upstream).netloc
        self.flaws: dict[str, list[Flaw]] = {}
        """End of a path -> what happens to the first requests for it, one after the other."""
        self.gets: Counter[str] = Counter()
        """How often each path was asked for."""
        self.others: Counter[str] = Counter()
        """How often by another method."""
        self.most_at_once = 0
        """Bodies of tarballs on their way at the same time, at most."""
        self.half_sent, self.let_go = threading.Event(), threading.Event()
        """A `silent` answer has reached its middle; it may end."""
        self._at_once, self._lock = 0, threading.Lock()
        handler = type("Handler", (_Handler,), {"proxy": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def flaw(self, method: str, path: str) -> Flaw | None:
        """What happens to a request."""
        with self._lock:
            if method != "GET":
                self.others[path] += 1
                return None
            self.gets[path] += 1
            coming = next((flaws for end, flaws in self.flaws.items() if path.endswith(end) and flaws), None)
            return coming.pop(0) if coming else None

    def count(self, change: int) -> None:
        """A tarball's body begins (1) or ends (-1)."""
        with self._lock:
            self._at_once += change
            self.most_at_once = max(self.most_at_once, self._at_once)

    def close(self) -> None:
        """End it."""
        self.let_go.set()
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    proxy: FlawedProxy
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def handle_request(self) -> None:
        path = urlsplit(self.path).path
        flaw = self.proxy.flaw(self.command, path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if flaw in ("busy", "refused"):
            self.send_response(503 if flaw == "busy" else 403)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        connection = http.client.HTTPConnection(self.proxy.upstream)
        connection.request(self.command, self.path, body, dict(self.headers))
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if flaw == "forged" and name.lower().startswith("x-amz-checksum"):
                continue  # so that the client does not notice
            if name.lower() not in ("transfer-encoding", "content-length", "connection", "server", "date"):
                self.send_header(name, value)
        length = answer.getheader("Content-Length") if self.command == "HEAD" else len(content)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        is_shard = path.endswith(".tar") and self.command == "GET"
        self.proxy.count(is_shard)
        self._send(content, flaw)
        self.proxy.count(-is_shard)

    def _send(self, content: bytes, flaw: Flaw | None) -> None:
        middle = len(content) // 2
        if flaw is None:
            self.wfile.write(content)
            return
        if flaw in ("flipped", "forged"):
            self.wfile.write(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
            return
        self.wfile.write(content[:middle])
        self.wfile.flush()
        if flaw == "silent":
            self.proxy.half_sent.set()
            self.proxy.let_go.wait()
        if flaw == "reset":  # close with RST instead of FIN
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_WR) if flaw != "reset" else self.connection.close()

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_request
