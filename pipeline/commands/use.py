"""Commands that use a run: evaluate, generate, export."""

import argparse
from typing import Any

from pipeline.commands.arguments import add_acting, load_or_show


def add_using(commands: Any) -> None:
    """Add `eval`, `generate` and `export`."""
    add_acting(commands, "eval", _evaluate, "measure runs on held-out sets", "tarmac eval configs/evaluate/demo.yaml")
    example = "tarmac export configs/export/huggingface.yaml run=runs/demo output=exports/demo"
    add_acting(commands, "export", _export, "write a Hugging Face folder", example)
    _add_generate(commands)


def _add_generate(commands: Any) -> None:
    parser = commands.add_parser(
        "generate",
        help="continue a prompt",
        description="Continue a prompt with a run's newest good checkpoint.",
        epilog='Example: tarmac generate runs/demo --prompt "def main("',
    )
    parser.add_argument("run_folder", metavar="RUN", help="run folder")
    parser.add_argument("--prompt", default="", help="text to continue")
    parser.add_argument("--chat", action="store_true", help="the prompt is a user's message")
    parser.add_argument(
        "--few-shot",
        metavar="PAIRS",
        nargs="?",
        const="",
        help="in-context learning, measured on a JSON-lines file of pairs (the run's held-out ones)",
    )
    parser.add_argument("--max-new-tokens", type=int, default=128, help="at most so many tokens (128)")
    parser.add_argument("--temperature", type=float, default=0.8, help="0 takes the likeliest token (0.8)")
    parser.add_argument("--top-k", type=int, default=50, help="sample among the k likeliest tokens; 0: all (50)")
    parser.add_argument("--top-p", type=float, default=0.95, help="sample among the likeliest of this mass (0.95)")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same text (0)")
    parser.add_argument("--num-samples", type=int, default=1, help="continuations (1)")
    parser.add_argument("--step", type=int, help="which checkpoint (the newest)")
    parser.add_argument("--ema", action="store_true", help="the average that the run kept of its weights (ema.decay)")
    parser.set_defaults(run=_generate)


def _evaluate(options: argparse.Namespace) -> None:
    config = load_or_show(options, "evaluate")
    if config is not None:
        from pipeline.stages.evaluate import evaluate

        evaluate(config)


def _export(options: argparse.Namespace) -> None:
    config = load_or_show(options, "export")
    if config is not None:
        from pipeline.stages.export import export

        export(config)


def _generate(options: argparse.Namespace) -> None:
    from pipeline.stages.generate import generate_from_options

    generate_from_options(options)
