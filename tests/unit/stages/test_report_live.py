"""The live page's server, asked over the loopback."""

import json
import socket
import struct
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from threading import Thread

import pytest

from pipeline import cli
from pipeline.errors import RunError
from pipeline.runtime.files import append_json_line
from pipeline.stages.report.live import HOST, LiveServer, server
from tests.unit.html_page import HtmlPage
from tests.unit.stages.run_story import tell_run, training_row


class Asked:
    """A server of a run, and a way to ask it."""

    def __init__(self, run: Path, made: LiveServer) -> None:
        self.run, self.port, self.root = run, made.server_port, made.root

    def get(self, path: str, **headers: str) -> tuple[HTTPResponse, bytes]:
        return self.get_bare(self.root + path.removeprefix("/"), **headers)

    def get_bare(self, path: str, **headers: str) -> tuple[HTTPResponse, bytes]:
        """Without the word of the address."""
        connection = HTTPConnection(HOST, self.port, timeout=30)
        connection.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return answer, body


@pytest.fixture
def asked(tmp_path: Path) -> Iterator[Asked]:
    run = tell_run(tmp_path / "runs" / "demo", tmp_path / "corpus")
    with server(run, 0) as made:
        thread = Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield Asked(run, made)
        made.shutdown()
        thread.join()


def test_the_page_may_ask_its_own_server_and_nobody_else(asked: Asked) -> None:
    answer, body = asked.get("/")
    page = HtmlPage(body.decode())
    assert answer.status == 200
    assert page.needs_no_network()
    [policy] = [one["content"] for tag, one in page.tags if one.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    assert policy.startswith("default-src 'none'; ")
    assert policy.endswith("; connect-src 'self'")
    assert "script-src 'sha256-" in policy
    assert answer.headers["Content-Security-Policy"] == "frame-ancestors 'none'"


def test_rows_that_came_are_in_the_next_answer(asked: Asked) -> None:
    first, body = asked.get("/data")
    assert json.loads(body)["data"]["charts"][0]["series"][0]["points"][-1][0] == 600
    again, nothing = asked.get("/data", If_None_Match=first.headers["ETag"])
    assert (again.status, nothing) == (304, b"")
    append_json_line(asked.run / "metrics.jsonl", training_row(605, 1_760_000_400.0))
    grown, body = asked.get("/data", If_None_Match=first.headers["ETag"])
    news = json.loads(body)
    assert grown.status == 200
    assert news["data"]["charts"][0]["series"][0]["points"][-1][0] == 605
    assert dict(news["figures"])["steps"] == "605 of 600"
    assert 'id="goodput"' in news["sections"]


@pytest.mark.parametrize(
    "path", ["/config.yaml", "/../config.yaml", "//etc/passwd", "/data/", "/?", "/%2e%2e/config.yaml"]
)
def test_no_file_is_served(asked: Asked, path: str) -> None:
    answer, body = asked.get(path)
    assert (answer.status, body) == (404, b"nothing is here; take the whole address that was printed\n")


@pytest.mark.parametrize("path", ["/", "/data", "/x/", "/x/data"])
def test_other_users_of_the_machine_do_not_know_the_address(asked: Asked, path: str) -> None:
    assert asked.get_bare(path)[0].status == 404


def test_each_server_has_another_address(asked: Asked) -> None:
    with server(asked.run, 0) as made:
        assert len(made.root) > 20
        assert made.root != asked.root


@pytest.mark.parametrize("path", ["/", "/data"])
def test_a_page_elsewhere_cannot_read_it_by_a_name_of_its_own(asked: Asked, path: str) -> None:
    assert asked.get(path, Host=f"rebound.example:{asked.port}")[0].status == 403
    assert asked.get(path, Host=f"localhost:{asked.port}")[0].status == 200


def test_a_run_whose_config_went_is_told_and_the_server_goes_on(asked: Asked) -> None:
    config = asked.run / "config.yaml"
    text = config.read_text()
    config.unlink()
    answer, body = asked.get("/data")
    assert answer.status == 500
    assert b"has no config.yaml; give the folder of a training run" in body
    config.write_text(text)
    assert asked.get("/data")[0].status == 200


def test_rows_that_cannot_be_shown_are_an_answer(asked: Asked) -> None:
    rows = asked.run / "evaluations.jsonl"
    text = rows.read_text()
    append_json_line(rows, {"time": 1_760_000_400.0, "step": 600, "set": "stdlib"})
    answer, body = asked.get("/data")
    assert (answer.status, body) == (500, b"the run's files cannot be shown (KeyError: 'loss')\n")
    rows.write_text(text)
    assert asked.get("/data")[0].status == 200


def test_a_page_that_is_closed_meanwhile_is_no_fault(asked: Asked, capfd) -> None:
    with socket.create_connection((HOST, asked.port)) as gone:
        gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # its end is a reset
        gone.sendall(f"GET {asked.root}data HTTP/1.1\r\nHost: {HOST}:{asked.port}\r\n\r\n".encode())
    answer, _ = asked.get("/data")
    assert answer.status == 200
    assert answer.headers["Server"].strip() == "tarmac"
    assert capfd.readouterr().err == ""


def test_nothing_listens_beyond_the_loopback(asked: Asked) -> None:
    with server(asked.run, 0) as made:
        assert made.server_address[0] == "127.0.0.1"


def test_a_port_that_is_taken_is_one_sentence(asked: Asked, capsys) -> None:
    assert cli.main(["report", "--live", str(asked.run), "--port", str(asked.port)]) == 2
    said = f"tarmac: port {asked.port} of 127.0.0.1 cannot be taken (Address already in use); choose another --port\n"
    assert capsys.readouterr().err == said
    with socket.create_server((HOST, 0)) as other, pytest.raises(RunError, match="cannot be taken"):
        server(asked.run, other.getsockname()[1])
