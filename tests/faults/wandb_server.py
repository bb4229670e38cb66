"""A W&B server that says as little as the client needs, keeps the rows it gets, and fails when it is told to."""

import hashlib
import json
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "x" * 40
"""A key of the right length."""


class WandbServer:
    """Serves in threads of this process, from its making to its closing."""

    def __init__(self, state: str = "well") -> None:
        """Begin to serve.

        Args:
            state: `well`, `silent` (takes requests and answers none) or `broken` (answers 500); may be changed.
        """
        self.state = state
        self.lines: dict[str, list[dict[str, Any]]] = {}
        """The history of each run."""
        self.runs: dict[str, dict[str, Any]] = {}
        """What each run was said to be when it was made, and its config since then."""
        self.alerts: list[dict[str, Any]] = []
        self.artifacts: list[dict[str, Any]] = []
        """As they were asked for, in their order; each with its `manifest` once that came."""
        self.uploads: dict[str, bytes] = {}
        """Files by their names."""
        self.requests = 0
        self.bodies: list[bytes] = []
        """What was sent; the key is in the headers."""
        self._ended = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"owner": self}))
        self._server.daemon_threads = True
        self._server.handle_error = lambda *of: None  # clients that are killed
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def environment(self) -> dict[str, str]:
        """What leads a client here."""
        return {"WANDB_API_KEY": KEY, "WANDB_BASE_URL": f"http://127.0.0.1:{self._server.server_port}"}

    def close(self) -> None:
        """End serving; nothing listens any more."""
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()

    def answer(self, path: str, body: bytes) -> Any:
        """The answer to a request, or None if there will be none."""
        self.requests += 1
        self.bodies.append(body)
        if self.state == "silent":
            self._ended.wait()
            return None
        if path == "/graphql":
            asked = json.loads(body)
            found = re.match(r"\s*(?:query|mutation) (\w+)", asked["query"])
            answer = _ANSWERS.get(found[1]) if found else None
            return {"data": answer(self, asked.get("variables", {})) if answer else {}}
        if path.startswith("/upload/"):
            self._keep(path.removeprefix("/upload/"), body)
        if path.endswith("/file_stream"):
            self._take(path.split("/")[-2], json.loads(body).get("files", {}).get("wandb-history.jsonl"))
        return {}

    def _take(self, run: str, piece: dict[str, Any] | None) -> None:
        if piece:
            lines = self.lines.setdefault(run, [])
            lines[piece["offset"] :] = [json.loads(line) for line in piece["content"]]

    def _keep(self, name: str, body: bytes) -> None:
        self.uploads[name] = body
        if name.startswith("manifest-"):
            self.artifacts[int(name.removeprefix("manifest-"))]["manifest"] = json.loads(body)["contents"]

    def resume(self, variables: dict[str, Any]) -> dict[str, Any]:
        """What is known of a run that may exist."""
        lines = self.lines.get(variables["name"])
        if not lines:
            return {"model": None}
        bucket = _bucket(variables["name"], len(lines)) | {
            "summaryMetrics": "{}", "logLineCount": 0, "eventsLineCount": 0, "eventsTail": "[]", "tags": [],
            "historyTail": json.dumps([json.dumps(lines[-1])]), "notes": None, "wandbConfig": '{"t": 1}',
        }  # fmt: skip
        return {"model": {"id": "cA==", "name": "p", "entity": {"id": "ZQ==", "name": "e"}, "bucket": bucket}}

    def upsert(self, variables: dict[str, Any]) -> dict[str, Any]:
        """A run, made or found."""
        lines = self.lines.get(variables["name"], [])
        told = {key: value for key, value in variables.items() if value is not None}
        self.runs[variables["name"]] = {**told, **self.runs.get(variables["name"], {}), "config": told.get("config")}
        return {"upsertBucket": {"bucket": _bucket(variables["name"], len(lines)), "inserted": not lines}}

    def files(self, variables: dict[str, Any]) -> dict[str, Any]:
        """Where files are to be sent."""
        url = f"{self.environment['WANDB_BASE_URL']}/upload/"
        files = [{"name": name, "uploadUrl": url + name} for name in variables["files"]]
        return {"createRunFiles": {"runID": variables["run"], "uploadHeaders": [], "files": files}}

    def artifact(self, variables: dict[str, Any]) -> dict[str, Any]:
        """An artifact, to be filled; one of the same name and digest is there already."""
        self.artifacts.append(dict(variables["input"]))
        number, digests = (
            len(self.artifacts) - 1,
            [(one["artifactCollectionName"], one["digest"]) for one in self.artifacts],
        )
        state = "COMMITTED" if digests[-1] in digests[:-1] else "PENDING"
        artifact = {"id": str(number), "state": state, "artifactSequence": {"latestArtifact": None}}
        return {"createArtifact": {"artifact": artifact}}

    def manifest(self, variables: dict[str, Any]) -> dict[str, Any]:
        """Where the list of an artifact's files goes."""
        file = self._place(f"manifest-{variables['artifactID']}") | {"id": "Zg=="}
        return {"createArtifactManifest": {"artifactManifest": {"id": "bQ==", "file": file}}}

    def artifact_files(self, variables: dict[str, Any]) -> dict[str, Any]:
        """Where files of an artifact go."""
        found = [
            self._place(f"{one['artifactID']}-{one['name']}")
            | {"storagePath": None, "uploadMultipartUrls": None, "artifact": {"id": one["artifactID"]}}
            for one in variables["input"]["artifactFiles"]
        ]
        return {"createArtifactFiles": {"files": {"edges": [{"node": one} for one in found]}}}

    def commit(self, variables: dict[str, Any]) -> dict[str, Any]:
        """An artifact is whole."""
        digest = hashlib.md5(repr(variables).encode()).hexdigest()
        return {"commitArtifact": {"artifact": {"id": "YQ==", "digest": digest}}}

    def alert(self, variables: dict[str, Any]) -> dict[str, Any]:
        """Somebody is told."""
        self.alerts.append(variables)
        return {"notifyScriptableRunAlert": {"success": True}}

    def _place(self, name: str) -> dict[str, Any]:
        return {"uploadUrl": f"{self.environment['WANDB_BASE_URL']}/upload/{name}", "uploadHeaders": []}


_ANSWERS: dict[str, Callable[[WandbServer, dict[str, Any]], dict[str, Any]]] = {
    "RunResumeStatus": WandbServer.resume,
    "UpsertBucket": WandbServer.upsert,
    "CreateRunFiles": WandbServer.files,
    "CreateArtifact": WandbServer.artifact,
    "CreateArtifactManifest": WandbServer.manifest,
    "CreateArtifactFiles": WandbServer.artifact_files,
    "CommitArtifact": WandbServer.commit,
    "NotifyScriptableRunAlert": WandbServer.alert,
}


def _bucket(name: str, num_lines: int) -> dict[str, Any]:
    project = {"id": "cA==", "name": "p", "entity": {"id": "ZQ==", "name": "e"}}
    return {"id": "aWQ=", "name": name, "displayName": name, "description": None, "config": "{}", "sweepName": None,
            "project": project, "historyLineCount": num_lines}  # fmt: skip


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: WandbServer

    def do_POST(self) -> None:
        answer = self.owner.answer(self.path, self.rfile.read(int(self.headers.get("Content-Length") or 0)))
        if answer is None:
            return
        content = json.dumps(answer).encode()
        self.send_response(500 if self.owner.state == "broken" else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_PUT = do_GET = do_POST

    def log_message(self, *words: object) -> None:
        """Say nothing."""
