"""`tarmac report --live`: the page of a run while it trains, served on the loopback alone.

Two addresses, the page's and `data` below it, which it asks for what is new; no file is served. Both begin with a word
that nobody can guess, as other users of the machine reach the loopback, too. A request that names another host is
refused: a page elsewhere may have had its own name point here.
"""

import secrets
from contextlib import suppress
from functools import partial
from hmac import compare_digest
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from pipeline.errors import RunError, TarmacError
from pipeline.runtime.page import render_page
from pipeline.stages.report.charts import chart_data
from pipeline.stages.report.collect import CorpusFacts, RunReport, collect
from pipeline.stages.report.page import details, key_figures, page, state
from pipeline.stages.report.points import script_json

HOST = "127.0.0.1"
_FILES = ("metrics.jsonl", "journal.jsonl", "ranks.jsonl", "evaluations.jsonl", "samples.jsonl", "config.yaml")

_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "frame-ancestors 'none'",  # the page itself says the rest
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def serve(run_folder: str | Path, port: int = 0) -> None:
    """Serve the page of a run until the process is interrupted; its address is printed.

    Args:
        run_folder: The run's.
        port: Where; 0 takes a free one.

    Raises:
        RunError: The folder is not a run, or the port cannot be taken.
    """
    with server(Path(run_folder), port) as made:
        print(f"{made.url} until Ctrl-C", flush=True)
        made.serve_forever()


class LiveServer(ThreadingHTTPServer):
    """Listens, and knows the word in its address."""

    def __init__(self, folder: Path, port: int, corpora: list[CorpusFacts]) -> None:
        """Take the port. Raises OSError."""
        self.root = f"/{secrets.token_urlsafe(16)}/"
        super().__init__((HOST, port), partial(_Handler, folder, corpora))

    @property
    def url(self) -> str:
        """The page's."""
        return f"http://{HOST}:{self.server_port}{self.root}"


def server(folder: Path, port: int) -> LiveServer:
    """What listens; corpora are looked at once. Raises RunError as `serve` does."""
    corpora = collect(folder).corpora
    if not 0 <= port <= 65535:
        raise RunError(f"--port {port} is no port; give one up to 65535, or none for a free one")
    try:
        return LiveServer(folder, port, corpora)
    except OSError as error:
        raise RunError(f"port {port} of {HOST} cannot be taken ({error.strerror}); choose another --port") from error


class _Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    server: LiveServer
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "tarmac", ""
    timeout = 60

    def __init__(self, folder: Path, corpora: list[CorpusFacts], *arguments: object) -> None:
        """Take the connection; `arguments` are those of http.server."""
        self._folder, self._corpora = folder, corpora
        super().__init__(*arguments)  # type: ignore[arg-type]

    def handle(self) -> None:
        """Answer until the page is closed, which it may be in the middle of an answer."""
        with suppress(ConnectionError):
            super().handle()

    def do_GET(self) -> None:
        """The page, or what its script asks for."""
        try:
            self._answer_path()
        except TarmacError as error:
            self._answer(HTTPStatus.INTERNAL_SERVER_ERROR, "text/plain", f"{error}\n")
        except ConnectionError:  # nobody is there for an answer
            raise
        except Exception as error:  # files that a run writes may hold anything; the next answer may be well again
            words = f"the run's files cannot be shown ({type(error).__name__}: {error})"
            self._answer(HTTPStatus.INTERNAL_SERVER_ERROR, "text/plain", " ".join(words.split()) + "\n")

    def _answer_path(self) -> None:
        if self.headers.get("Host") not in (
            f"{HOST}:{self.server.server_port}",
            f"localhost:{self.server.server_port}",
        ):
            self._answer(HTTPStatus.FORBIDDEN, "text/plain", "this address is for pages of this machine\n")
        elif compare_digest(self.path.encode(), self.server.root.encode()):
            self._answer(HTTPStatus.OK, "text/html", render_page(page([self._report()], is_live=True)))
        elif compare_digest(self.path.encode(), f"{self.server.root}data".encode()):
            self._answer_data()
        else:
            self._answer(
                HTTPStatus.NOT_FOUND, "text/plain", "nothing is here; take the whole address that was printed\n"
            )

    def _answer_data(self) -> None:
        version = _version(self._folder)
        if self.headers.get("If-None-Match") == version:
            self._answer(HTTPStatus.NOT_MODIFIED, "application/json", "", {"ETag": version})
        else:
            self._answer(HTTPStatus.OK, "application/json", news(self._report()), {"ETag": version})

    def _report(self) -> RunReport:
        return collect(self._folder, corpora=self._corpora)

    def _answer(self, status: HTTPStatus, kind: str, text: str, headers: dict[str, str] | None = None) -> None:
        body = text.encode("utf-8", "replace")
        self.send_response(status)
        about = {"Content-Type": f"{kind}; charset=utf-8", "Content-Length": str(len(body)), **(headers or {})}
        for name, value in (about | _HEADERS).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing: the page asks every two seconds."""


def news(report: RunReport) -> str:
    """What the page shows, as JSON: charts as data, the head as text, the other sections as the page's own markup."""
    return script_json({
        "data": chart_data([report]), "state": state(report), "figures": key_figures(report),
        "sections": "".join(details(report)),
    })  # fmt: skip


def _version(folder: Path) -> str:
    """Another text whenever one of the run's files has changed."""
    found = []
    for name in _FILES:
        with suppress(FileNotFoundError):
            about = (folder / name).stat()
            found.append(f"{about.st_size}.{about.st_mtime_ns}")
    return f'"{"-".join(found)}"'
