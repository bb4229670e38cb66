"""W&B's server, asked before anything is sent to it."""

import base64
import json
import netrc
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

import wandb

from pipeline.corpus.remote.urls import shown
from pipeline.errors import RunError

_SECONDS = 20
_QUERY = """query RunResumeStatus($project: String, $entity: String, $name: String!) {
  model(name: $project, entityName: $entity) { bucket(name: $name, missingOk: true) { historyLineCount } } }"""
_ANOTHER_KEY, _ANOTHER_URL = "give another key", "set WANDB_BASE_URL to where it is now"
_CURES = {401: _ANOTHER_KEY, 403: _ANOTHER_KEY, **dict.fromkeys((301, 302, 303, 307, 308), _ANOTHER_URL)}


@dataclass(frozen=True)
class WandbServer:
    """Where W&B is, and the key for it."""

    url: str
    key: str = field(repr=False)

    @staticmethod
    def from_environment() -> "WandbServer":
        """As W&B finds it: by variables, its settings, and the key that `wandb login` keeps. Raises RunError."""
        url = wandb.setup().settings.base_url
        key = os.environ.get("WANDB_API_KEY") or _kept_key(url)
        if not key:
            raise RunError(
                f"there is no key for W&B at {shown(url)}; export WANDB_API_KEY, or give it to `wandb login`"
            )
        return WandbServer(url, key)

    def num_rows(self, entity: str | None, project: str, run: str) -> int:
        """Rows of a run that arrived there.

        Raises:
            RunError: There is no answer, or the key is refused.
        """
        asked = {"query": _QUERY, "variables": {"entity": entity, "project": project, "name": run}}
        model = (self._answer(asked).get("data") or {}).get("model") or {}
        return int((model.get("bucket") or {}).get("historyLineCount") or 0)

    def _answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        secret = base64.b64encode(f"api:{self.key}".encode()).decode()
        headers = {"Content-Type": "application/json", "Authorization": f"Basic {secret}"}
        try:
            request = Request(f"{self.url}/graphql", json.dumps(asked).encode(), headers)
            with build_opener(_NoRedirect).open(request, timeout=_SECONDS) as answer:
                return dict(json.load(answer))
        except HTTPError as error:
            cure = _CURES.get(error.code, "try again later")
            raise RunError(f"W&B at {shown(self.url)} answers {error.code} ({error.reason}); {cure}") from error
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            raise RunError(
                f"W&B at {shown(self.url)} does not answer ({reason}); nothing was sent, set WANDB_BASE_URL or try"
                " again later"
            ) from error


class _NoRedirect(HTTPRedirectHandler):
    """Goes nowhere else: the key would go along, to whatever host is named."""

    def redirect_request(self, *of: Any) -> None:
        """An error, as any answer but the one that was asked for."""


def _kept_key(url: str) -> str | None:
    path = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    try:
        found = netrc.netrc(path).authenticators(urlsplit(url).netloc)
    except (OSError, netrc.NetrcParseError):
        return None
    return found[2] if found else None
