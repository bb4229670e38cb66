"""`tarmac report`: one self-contained HTML page about a run. It needs no network, neither to write nor to read."""

from pathlib import Path

from pipeline.errors import RunError
from pipeline.runtime.files import write_text
from pipeline.stages.report.collect import collect
from pipeline.stages.report.page import render


def write_report(run_folder: str | Path, output: str | Path | None = None) -> Path:
    """Write the page about a run and return where it is, `report.html` in the run folder if not said otherwise.

    Raises:
        RunError: The folder is not a run, or the page cannot be written.
    """
    path = Path(output) if output is not None else Path(run_folder) / "report.html"
    page = render(collect(run_folder))
    try:
        write_text(path, page)
    except OSError as error:
        raise RunError(f"report {path} cannot be written ({error.strerror}); choose another --output") from error
    return path
