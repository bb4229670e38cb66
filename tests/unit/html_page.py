"""A page as a test looks at it."""

from html.parser import HTMLParser
from pathlib import Path


class HtmlPage(HTMLParser):
    """The elements of a page with their text, and whether tags are balanced."""

    VOID = ("meta", "link", "img", "br", "input")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.rows: list[list[str]] = []
        """The texts of the cells of each row of each table."""
        self.feed(text)
        self.close()

    @classmethod
    def read(cls, path: Path) -> "HtmlPage":
        return cls(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((self.open[-1] if self.open else "", data))
        if "tr" in self.open:
            self.rows[-1][-1] += data

    def text(self) -> str:
        return " ".join(data for tag, data in self.texts if tag not in ("script", "style"))

    def needs_no_network(self) -> bool:
        """Whether nothing in it makes a browser fetch something."""
        styles = " ".join(text for tag, text in self.texts if tag == "style")
        return (
            not {tag for tag, _ in self.tags} & {"img", "iframe", "object", "embed", "form", "a"}
            and not any("src" in attributes for _, attributes in self.tags)
            and all((attributes.get("href") or "data:").startswith("data:") for _, attributes in self.tags)
            and "url(" not in styles
            and "@import" not in styles
        )
