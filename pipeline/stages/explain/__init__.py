"""What a step is made of, and when a document is seen: computed from the phase table, without logs."""

import argparse
from pathlib import Path

from pipeline.errors import RunError
from pipeline.stages.explain.document import explain_document
from pipeline.stages.explain.run import open_explained
from pipeline.stages.explain.show import print_document, print_json, print_step
from pipeline.stages.explain.step import explain_step


def explain(options: argparse.Namespace) -> None:
    """Print what the command's options ask for.

    Raises:
        RunError: The step or the document is not of this run.
    """
    if (options.step is None) == (options.document is None):
        raise RunError("explain needs either --step N or --document ID; give one of them")
    run = open_explained(Path(options.run_folder))
    if options.document is not None:
        found = explain_document(run, options.document, options.times, options.world_size, options.micro_size)
        print_json(found) if options.json else print_document(found)
        return
    step = explain_step(run, options.step, options.rank, options.world_size, options.micro_size)
    print_json(step) if options.json else print_step(step, options.full)
