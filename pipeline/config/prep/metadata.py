"""Which metadata documents can have: what readers map, and what filters add."""

from collections.abc import Iterable, Sequence

from pipeline.config.prep.filters import CustomFilter, Filter, LanguageFilter, UrlFilter
from pipeline.config.prep.readers import FieldMapping, Reader, WarcReader, WebdatasetReader

_OF_PAGES = ("url", "date")
"""What a web archive tells by itself."""
Steps = Sequence[tuple[Reader, Sequence[Filter]]]
"""Of some sources, the reader and the filters that its documents go through."""


def require_url(steps: Steps, name: str) -> None:
    """Raises ValueError if there is a URL filter, and none of the sources that it is for has `url`."""
    filtered = [step for step in steps if any(isinstance(filter_, UrlFilter) for filter_ in step[1])]
    if filtered and "url" in _missing(["url"], filtered):
        raise ValueError(
            f"{name} holds a url filter, but the documents have no `url`; map it: reader.metadata: {{url: FIELD}}"
        )


def require_metadata(names: Iterable[str], steps: Steps) -> None:
    """Raises ValueError if some of the metadata that shards are to keep is in no source's documents."""
    if missing := _missing(names, steps):
        raise ValueError(
            f"shards.metadata names {', '.join(missing)}, which no reader maps and no filter adds; correct it, or add"
            f" reader.metadata: {{{missing[0]}: FIELD}}"
        )


def _missing(names: Iterable[str], steps: Steps) -> list[str]:
    """Which metadata no source has; a function of the user's may add any."""
    filters = [filter_ for _, group in steps for filter_ in group]
    if any(isinstance(filter_, CustomFilter) for filter_ in filters):
        return []
    known = {name for reader, _ in steps for name in _mapped(reader)}
    known |= {"language"} if any(isinstance(filter_, LanguageFilter) for filter_ in filters) else set()
    return [name for name in names if name not in known]


def _mapped(reader: Reader) -> Iterable[str]:
    if isinstance(reader, FieldMapping | WebdatasetReader):
        return reader.metadata
    return _OF_PAGES if isinstance(reader, WarcReader) else ()
