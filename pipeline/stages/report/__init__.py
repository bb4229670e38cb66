"""`tarmac report`: one self-contained HTML page about a run. It needs no network, neither to write nor to read."""

from pathlib import Path

from pipeline.runtime.page import render_page, write_page
from pipeline.stages.report.collect import collect
from pipeline.stages.report.page import page


def write_report(run_folder: str | Path, output: str | Path | None = None) -> Path:
    """Write the page about a run and return where it is, `report.html` in the run folder if not said otherwise.

    Raises:
        RunError: The folder is not a run, or the page cannot be written.
    """
    path = Path(output) if output is not None else Path(run_folder) / "report.html"
    write_page(path, render_page(page(collect(run_folder))))
    return path
