"""The `tarmac` command. Nothing heavy is imported before a command runs; only here do errors become exit statuses."""

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import Any

from pipeline.errors import RunError, TarmacError
from pipeline.runtime.arguments import ArgumentParser
from pipeline.runtime.ranks import ranks_from_environment

_ACT = "CONFIG is a YAML file; section.key=value words override its keys."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 2 after an error of the user's, told in one sentence."""
    parser = _parser()
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments:
        parser.print_help()
        return 0
    options = parser.parse_args(arguments)
    try:
        status: int | None = options.run(options)
    except TarmacError as error:
        from pipeline.corpus.remote.urls import shown

        if not (error.on_all_ranks and ranks_from_environment().rank):
            print(f"tarmac: {shown(str(error))}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return status or 0


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="tarmac",
        description="From web text to a trained language model on a GPU cluster.",
        epilog="First steps: tarmac init my.yaml; tarmac prep configs/data_prep/stdlib.yaml",
    )
    parser.add_argument("--version", action="version", version=f"tarmac {version('tarmac')}")
    parser.set_defaults(check=_check, show_memory=_show_memory)  # for `launch`, which knows no models
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for entry_point in sorted(entry_points(group="tarmac.commands"), key=lambda entry: entry.name, reverse=True):
        entry_point.load()(commands)
    _add_training(commands)
    _add_acting(commands, "eval", _evaluate, "measure runs on held-out sets", "tarmac eval configs/evaluate/demo.yaml")
    _add_acting(commands, "export", _export, "write a Hugging Face folder",
                "tarmac export configs/export/huggingface.yaml run=runs/demo output=exports/demo")  # fmt: skip
    _add_data(commands)
    _add_doctor(commands)
    _add_generate(commands)
    _add_runs(commands)
    _add_looking(commands)
    _add_init(commands)
    return parser


def _add_acting(commands: Any, name: str, run: Any, text: str, example: str) -> argparse.ArgumentParser:
    description, epilog = f"{text[0].upper()}{text[1:]}. {_ACT}", f"Example: {example}"
    parser = commands.add_parser(name, help=text, description=description, epilog=epilog)
    parser.add_argument("config", metavar="CONFIG", help="YAML file")
    parser.add_argument("overrides", metavar="key=value", nargs="*", default=[], help="keys to override")
    parser.add_argument("--dry-run", action="store_true", help="print the resolved config and stop")
    parser.set_defaults(run=run)
    return parser


def _add_training(commands: Any) -> None:
    hint = "Start several ranks with `tarmac launch`, deepspeed or torchrun. "
    for name, stages, text in (
        ("train", ("pretrain",), "pre-train a model on a corpus"),
        ("finetune", ("finetune",), "fine-tune a run's checkpoint on conversations"),
    ):
        example = "configs/pretrain/demo.yaml batch.micro_size=8" if name == "train" else "configs/finetune/sft.yaml"
        parser = _add_acting(commands, name, _train, text, f"tarmac {name} {example}")
        parser.description = f"{parser.description} {hint}"
        parser.add_argument("--local_rank", type=int, help=argparse.SUPPRESS)  # some launchers add it
        parser.set_defaults(stages=stages)


def _add_data(commands: Any) -> None:
    parser = commands.add_parser(
        "data",
        help="which data a run would see: tokens and epochs of each source and phase",
        description=f"Tokens, sequences and epochs of each source in each phase of a run, before it starts. {_ACT}",
        epilog="Example: tarmac data configs/pretrain/demo.yaml",
    )
    parser.add_argument("config", metavar="CONFIG", help="YAML file")
    parser.add_argument("overrides", metavar="key=value", nargs="*", default=[], help="keys to override")
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.set_defaults(run=_data)


def _add_doctor(commands: Any) -> None:
    parser = commands.add_parser(
        "doctor",
        help="what memory, time and checkpoints a run will take",
        description="Memory of each rank, the largest micro batch and the ZeRO stage that fit, how long the run will"
        " take; size of its checkpoints, speed and room of the output's file system (up to 64 MB are written and"
        f" removed), and how often to write them. {_ACT}",
        epilog="Example: tarmac doctor configs/pretrain/7b.yaml --world-size 64 --device H100",
    )
    parser.add_argument("config", metavar="CONFIG", help="YAML file")
    parser.add_argument("overrides", metavar="key=value", nargs="*", default=[], help="keys to override")
    parser.add_argument("--world-size", type=_positive(int), help="number of ranks (as the environment says)")
    parser.add_argument(
        "--mttf-hours", type=_positive(float), metavar="H", help="hours between two failures of the job (50,677 by the"
        " number of ranks)",
    )  # fmt: skip
    parser.add_argument("--device", metavar="NAME", help="a kind of GPU, such as H100 (what is here)")
    parser.add_argument(
        "--try", dest="tries", action="store_true", help="make two steps here, on one rank, and compare"
    )
    parser.set_defaults(run=_doctor)


def _positive(kind: Callable[[str], float]) -> Callable[[str], float]:
    def parse(word: str) -> float:
        value = kind(word)
        if not 0 < value < math.inf:
            raise argparse.ArgumentTypeError(f"{word} must be above 0")
        return value

    parse.__name__ = "number"
    return parse


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


def _add_runs(commands: Any) -> None:
    status = commands.add_parser(
        "status",
        help="what runs do: step, loss, speed, time left",
        description="What runs do, by their folders alone, whatever started them.",
        epilog="Example: tarmac status runs/demo",
    )
    status.add_argument("runs", metavar="RUN", nargs="*", help="run folders (all below runs)")
    status.set_defaults(run=_status)
    stop = commands.add_parser(
        "stop",
        help="let a run save and end",
        description="Let a run save and end after its step, by its folder alone, on any host. The queue does not start"
        " it again; the same command goes on from there.",
        epilog="Example: tarmac stop runs/demo --wait 600",
    )
    stop.add_argument("run_folder", metavar="RUN", help="run folder")
    stop.add_argument("--wait", type=_positive(float), default=0.0, metavar="S", help="seconds to wait for it (0)")
    stop.set_defaults(run=_stop)


def _add_looking(commands: Any) -> None:
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
    _add_explain(commands)
    parser = commands.add_parser(
        "report",
        help="one HTML page of a run or corpus",
        description="Write a self-contained HTML page of a run or of a corpus.",
        epilog="Example: tarmac report runs/demo",
    )
    parser.add_argument("folder", metavar="RUN|CORPUS", help="run or corpus folder")
    parser.add_argument("--output", help="where to write it (report.html in the folder)")
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


def _add_init(commands: Any) -> None:
    parser = commands.add_parser(
        "init",
        help="write a commented starter config",
        description="Write a commented starter config.",
        epilog="Example: tarmac init my.yaml --stage pretrain",
    )
    parser.add_argument("path", metavar="FILE", help="YAML file to write; it must not exist")
    parser.add_argument("--stage", default="pretrain", choices=("prep", "pretrain", "finetune", "evaluate", "export"))
    parser.set_defaults(run=_init)
    parser = commands.add_parser(
        "schema",
        help="write the configs' JSON schema",
        description="Write a JSON schema of all configs, for editors.",
        epilog="Example: tarmac schema > configs/schema.json",
    )
    parser.set_defaults(run=_schema)


def _train(options: argparse.Namespace) -> int:
    from pipeline.config.stages import load_stage

    config: Any = load_stage(options.config, options.overrides, allowed=options.stages)
    if options.dry_run:
        from pipeline.stages.plan import print_training_plan
        from pipeline.stages.resume_plan import print_resume

        print_training_plan(config)
        print_resume(config)
        return 0
    from pipeline.stages.train import train

    return train(config)


def _check(config: Any) -> None:
    from pipeline.stages.check import check_inputs

    check_inputs(config)


def _show_memory(config: Any, num_ranks: int) -> None:
    from pipeline.stages.plan import print_memory

    print_memory(config, num_ranks)


def _evaluate(options: argparse.Namespace) -> None:
    config = _load_or_show(options, "evaluate")
    if config is not None:
        from pipeline.stages.evaluate import evaluate

        evaluate(config)


def _export(options: argparse.Namespace) -> None:
    config = _load_or_show(options, "export")
    if config is not None:
        from pipeline.stages.export import export

        export(config)


def _load_or_show(options: argparse.Namespace, stage: str) -> Any:
    """The config; None after a dry run, which prints it."""
    from pipeline.config.load import dump
    from pipeline.config.stages import load_stage

    config = load_stage(options.config, options.overrides, allowed=(stage,))
    if options.dry_run:
        print(dump(config), end="")
        return None
    return config


def _generate(options: argparse.Namespace) -> None:
    from pipeline.stages.generate import generate_from_options

    generate_from_options(options)


def _status(options: argparse.Namespace) -> None:
    from pipeline.stages.status import print_status

    print_status(options.runs)


def _stop(options: argparse.Namespace) -> None:
    from pipeline.stages.status import stop

    stop(options.run_folder, options.wait)


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


def _doctor(options: argparse.Namespace) -> None:
    from pipeline.config.stages import load_stage
    from pipeline.stages.doctor import examine

    config: Any = load_stage(options.config, options.overrides, allowed=("pretrain", "finetune"))
    examine(config, options.world_size, options.mttf_hours, options.device, options.tries)


def _data(options: argparse.Namespace) -> None:
    from pipeline.config.stages import load_stage
    from pipeline.stages.data.show import print_data_table

    config: Any = load_stage(options.config, options.overrides, allowed=("pretrain", "finetune"))
    print_data_table(config, options.json)


def _explain(options: argparse.Namespace) -> None:
    from pipeline.stages.explain import explain

    explain(options)


def _report(options: argparse.Namespace) -> None:
    from pipeline.corpus.manifest import MANIFEST_NAME

    if (Path(options.folder) / MANIFEST_NAME).is_file():
        write_report = next(iter(entry_points(group="tarmac.report"))).load()
    else:
        from pipeline.stages.report import write_report
    print(write_report(options.folder, options.output))


def _init(options: argparse.Namespace) -> None:
    from pipeline.config.starter import write_starter

    write_starter(options.path, options.stage)
    print(f"wrote {options.path}")


def _schema(options: argparse.Namespace) -> None:
    from pipeline.config.schema import schema_text

    print(schema_text(), end="")


if __name__ == "__main__":
    sys.exit(main())
