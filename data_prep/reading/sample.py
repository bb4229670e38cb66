"""Some texts of a file, from everywhere in what was read of it."""

from data_prep.documents.document import Document

_FILTERED_CHARACTERS = 500_000
"""Of each file, at most so much text is filtered and counted in tokens, and at least half of that if there is more."""


class Sample:
    """Every so many-th text, so that what is left of a file's texts comes from everywhere in them."""

    def __init__(self) -> None:
        """Begin with none."""
        self.texts: list[tuple[str, dict[str, str]]] = []
        """Texts with their metadata."""
        self._characters = self._seen = 0
        self._step = 1

    def add(self, document: Document) -> None:
        """Take a text, or pass it over; every other one taken goes when they become too much."""
        if self._seen % self._step == 0:
            self.texts.append((document.text, dict(document.metadata)))
            self._characters += len(document.text)
        self._seen += 1
        while self._characters > _FILTERED_CHARACTERS and len(self.texts) > 1:
            del self.texts[1::2]
            self._step *= 2
            self._characters = sum(len(text) for text, _ in self.texts)
