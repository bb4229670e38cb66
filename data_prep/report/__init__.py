"""`report.html` of a corpus: one self-contained HTML page, which needs no network, neither to write nor to read."""

from pathlib import Path

from data_prep.report.collect import collect
from data_prep.report.page import page
from pipeline.runtime.page import render_page, write_page


def write_corpus_report(folder: str | Path, output: str | Path | None = None) -> Path:
    """Write the page about a corpus and return where it is, `report.html` in its folder if not said otherwise.

    Raises:
        CorpusError: The folder is not a corpus.
        RunError: The page cannot be written.
    """
    path = Path(output) if output is not None else Path(folder) / "report.html"
    write_page(path, render_page(page(collect(Path(folder)))))
    return path
