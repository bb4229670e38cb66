"""Commands that only look."""

import argparse
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from pipeline.errors import RunError


def add_looking(commands: Any) -> None:
    """Add `verify`, `checkpoints`, `explain` and `report`."""
    _add_verify(commands)
    _add_checkpoints(commands)
    _add_explain(commands)
    _add_report(commands)


def _add_verify(commands: Any) -> None:
    parser = commands.add_parser(
        "verify",
        help="check every checksum of a run, corpus or export",
        description="Check every checksum of a run's checkpoints or of an export, or every checksum, count and index of"
        " a corpus."
        " Nothing is changed, unless a corpus is to be repaired.",
        epilog="Example: tarmac verify data/stdlib",
    )
    parser.add_argument("folder", metavar="RUN|CORPUS|EXPORT", help="run, corpus or export folder, or a corpus's URL")
    parser.add_argument("--repair", metavar="CONFIG", help="make a corpus's bad shards anew by its config")
    parser.set_defaults(run=_verify)


def _add_checkpoints(commands: Any) -> None:
    parser = commands.add_parser(
        "checkpoints",
        help="list a run's checkpoints",
        description="A run's checkpoints: size, age, what made them, why they are kept, whether they are whole; and"
        " what lies beside them. Nothing is changed.",
        epilog="Examples: tarmac checkpoints runs/demo --verify; tarmac checkpoints s3://bucket/run --into runs/demo",
    )
    parser.add_argument("run_folder", metavar="RUN|URL", help="run folder, or where copies of its checkpoints are")
    parser.add_argument("--verify", action="store_true", help="compare every byte with its checksum")
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.add_argument("--into", metavar="RUN", help="fetch a copy into this run folder, verified; the newest one")
    parser.add_argument("--step", type=int, help="which copy is fetched")
    parser.set_defaults(run=_checkpoints)


def _add_report(commands: Any) -> None:
    parser = commands.add_parser(
        "report",
        help="one HTML page of runs or of a corpus",
        description="Write a self-contained HTML page of a run, of several beside each other, or of a corpus; or serve"
        " that of a run on this machine alone while it trains.",
        epilog="Examples: tarmac report runs/demo; tarmac report runs/a runs/b; tarmac report --live runs/demo",
    )
    parser.add_argument("folders", metavar="RUN|CORPUS", nargs="+", help="run folders, or one corpus folder")
    parser.add_argument("--output", help="where to write it (report.html in the folder; of several, comparison.html)")
    parser.add_argument("--live", action="store_true", help="serve the page of one run, which follows it")
    parser.add_argument("--port", type=int, default=0, help="where on 127.0.0.1 (a free one)")
    parser.set_defaults(run=_report)


def _add_explain(commands: Any) -> None:
    parser = commands.add_parser(
        "explain",
        help="which documents went into a step, and when a document is seen",
        description="Which documents, and which text of them, each sequence of a past or future step is made of; or"
        " in which steps a document was seen and will be. Computed, not logged.",
        epilog="Example: tarmac explain runs/demo --step 100; tarmac explain runs/demo --document pairs.jsonl#7",
    )
    parser.add_argument("run_folder", metavar="RUN", help="run folder")
    parser.add_argument("--step", type=int, help="number of the step, from 1")
    parser.add_argument("--rank", type=int, help="only what this rank takes of it")
    parser.add_argument("--document", metavar="ID", help="id of a document, or origin#position")
    parser.add_argument("--times", type=int, default=10, help="how many sequences to come are shown (10)")
    parser.add_argument("--world-size", type=int, help="number of ranks (as the journal says)")
    parser.add_argument("--micro-size", type=int, help="sequences of a micro batch (as the run's config says)")
    parser.add_argument("--full", action="store_true", help="show the whole text")
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.set_defaults(run=_explain)


def _verify(options: argparse.Namespace) -> int:
    from pipeline.stages.verify import verify

    if options.repair:
        repair = next(iter(entry_points(group="tarmac.repair"))).load()
        repair(options.folder, options.repair)
    return verify(options.folder)


def _checkpoints(options: argparse.Namespace) -> int:
    from pipeline.corpus.remote.urls import is_url

    if not is_url(options.run_folder):
        if options.into or options.step is not None:
            raise RunError(f"--into and --step fetch a copy from a URL, and {options.run_folder} is none; give its URL")
        from pipeline.stages.checkpoints import list_checkpoints

        return list_checkpoints(options.run_folder, options.json, options.verify)
    if options.json or options.verify:
        raise RunError("--json and --verify are for a run folder; fetch a copy with --into, which verifies it")
    from pipeline.stages.copies import fetch_copy, list_copies

    if options.into:
        fetch_copy(options.run_folder, options.into, options.step)
    else:
        list_copies(options.run_folder)
    return 0


def _explain(options: argparse.Namespace) -> None:
    from pipeline.stages.explain import explain

    explain(options)


def _report(options: argparse.Namespace) -> None:
    from pipeline.corpus.manifest import MANIFEST_NAME
    from pipeline.stages.report import write_report

    folders = options.folders
    corpora = [folder for folder in folders if (Path(folder) / MANIFEST_NAME).is_file()]
    if corpora and (len(folders) > 1 or options.live):
        raise RunError(f"{corpora[0]} is a corpus, and only runs are compared or followed; report it alone")
    if options.live:
        _serve_report(options)
    elif corpora:
        print(next(iter(entry_points(group="tarmac.report"))).load()(folders[0], options.output))
    elif len(set(folders)) < len(folders):
        raise RunError(f"{', '.join(folders)}: a run is given twice; give runs that differ")
    else:
        print(write_report(folders, options.output))


def _serve_report(options: argparse.Namespace) -> None:
    from pipeline.stages.report.live import serve

    if len(options.folders) > 1 or options.output:
        raise RunError("--live serves the page of one run and writes none; name one run, without --output")
    serve(options.folders[0], options.port)
