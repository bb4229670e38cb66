"""The key for W&B goes to its server alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from pipeline.errors import RunError
from pipeline.stages.wandb_server import WandbServer

KEY = "k" * 40


@contextmanager
def redirecting(target: str, status: int) -> Iterator[tuple[str, list[str | None]]]:
    """A server that sends each request elsewhere; its URL, and the keys it got."""
    got: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(self.headers.get("Authorization"))
            self.send_response(status)
            self.send_header("Location", target)
            self.end_headers()

        do_GET = do_POST

        def log_message(self, *words: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", got
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_refused_and_the_key_stays(status: int) -> None:
    with redirecting("http://127.0.0.1:9/", 302) as (other, stolen), redirecting(other, status) as (url, got):
        with pytest.raises(RunError, match=rf"answers {status} .*; set WANDB_BASE_URL to where it is now"):
            WandbServer(url, KEY).num_rows(None, "p", "r")
        assert (len(got), stolen) == (1, [])


def test_the_key_is_not_shown() -> None:
    assert KEY not in repr(WandbServer("http://127.0.0.1:9", KEY))
