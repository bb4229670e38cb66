"""A self-contained HTML page: a head with key figures, and sections. It needs no network, to write or to read."""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from html import escape
from importlib import resources
from pathlib import Path
from string import Template

from pipeline.errors import RunError
from pipeline.runtime.files import write_text
from pipeline.runtime.markup import facts


@dataclass(frozen=True)
class Page:
    """What a page shows."""

    kind: str
    """What it is: `run report`."""
    title: str
    """Whose."""
    state: str
    """One line below the title."""
    figures: Sequence[tuple[str, str]]
    """Names and values of the key figures."""
    sections: Sequence[str]
    """Markup, one section each."""
    style: str = ""
    """CSS beyond that of every page."""
    script: str = ""
    """JavaScript beyond that of every page."""
    is_live: bool = False
    """Whether its script may ask the server that it came from for more."""


def render_page(page: Page) -> str:
    """The whole page as HTML text. What UTF-8 cannot hold, lone surrogates, becomes a question mark."""
    script = template("pipeline.runtime", "theme.js") + page.script
    text = Template(template("pipeline.runtime", "page.html")).substitute(
        policy=content_security_policy(script, page.is_live),
        kind=escape(page.kind),
        title=escape(page.title),
        state=escape(page.state),
        figures=facts(page.figures, "figures") if page.figures else "",
        sections="\n".join(page.sections),
        style=template("pipeline.runtime", "page.css") + page.style,
        script=script,
    )
    return text.encode("utf-8", "replace").decode("utf-8")


def content_security_policy(script: str, is_live: bool) -> str:
    """What a page may do: run its own script and no other, and ask nobody for anything but its own server if live."""
    digest = b64encode(sha256(f"\n{script}\n".encode()).digest()).decode()
    connect = "; connect-src 'self'" if is_live else ""
    return f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; img-src data:{connect}"


def write_page(path: Path, text: str) -> None:
    """Write a page, whole or not at all. Raises RunError if it cannot be written."""
    try:
        write_text(path, text)
    except OSError as error:
        raise RunError(f"report {path} cannot be written ({error.strerror}); choose another --output") from error


def template(package: str, name: str) -> str:
    """The text of a file in the `templates` folder of a package."""
    return (resources.files(package) / "templates" / name).read_text(encoding="utf-8")
