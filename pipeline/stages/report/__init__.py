"""`tarmac report`: one self-contained HTML page about runs. It needs no network, neither to write nor to read."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.runtime.page import render_page, write_page
from pipeline.stages.report.collect import collect_all
from pipeline.stages.report.page import page


def write_report(folders: Sequence[str | Path], output: str | Path | None = None) -> Path:
    """Write the page about a run, or about several beside each other, and return where it is.

    If not said otherwise that is `report.html` in the run's folder, of several runs `comparison.html` here.

    Raises:
        RunError: A folder is not a run, or the page cannot be written.
    """
    default = Path(folders[0]) / "report.html" if len(folders) == 1 else Path("comparison.html")
    path = default if output is None else Path(output)
    write_page(path, render_page(page(collect_all(folders))))
    return path
