"""Commands before a run: a starter config, which data it would see, what it would take."""

import argparse
from typing import Any

from pipeline.commands.arguments import CONFIG_HELP, add_config, positive


def add_preparing(commands: Any) -> None:
    """Add `init`, `data`, `doctor`, `health` and `schema`."""
    _add_init(commands)
    _add_data(commands)
    _add_doctor(commands)
    _add_health(commands)


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


def _add_data(commands: Any) -> None:
    parser = commands.add_parser(
        "data",
        help="which data a run would see: tokens and epochs of each source and phase",
        description="Tokens, sequences and epochs of each source in each phase of a run, before it starts."
        f" {CONFIG_HELP}",
        epilog="Example: tarmac data configs/pretrain/demo.yaml",
    )
    add_config(parser)
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.set_defaults(run=_data)


def _add_doctor(commands: Any) -> None:
    parser = commands.add_parser(
        "doctor",
        help="what memory, time and checkpoints a run will take",
        description="Memory of each rank, the largest micro batch and the ZeRO stage that fit, how long the run will"
        " take; size of its checkpoints, speed and room of the output's file system (up to 64 MB are written and"
        f" removed), and how often to write them. {CONFIG_HELP}",
        epilog="Example: tarmac doctor configs/pretrain/7b.yaml --world-size 64 --device H100",
    )
    add_config(parser)
    parser.add_argument("--world-size", type=positive(int), help="number of ranks (as the environment says)")
    parser.add_argument(
        "--mttf-hours", type=positive(float), metavar="H", help="hours between two failures of the job (50,677 by the"
        " number of ranks)",
    )  # fmt: skip
    parser.add_argument("--device", metavar="NAME", help="a kind of GPU, such as H100 (what is here)")
    parser.add_argument(
        "--try", dest="tries", action="store_true", help="make two steps here, on one rank, and compare"
    )
    parser.set_defaults(run=_doctor)


def _add_health(commands: Any) -> None:
    parser = commands.add_parser(
        "health",
        help="are the nodes of a job fit to train",
        description="Is every node fit to train: GPUs, free memory, speed of matrix products and of all-reduce beside"
        " the others', writable disks, clocks. Each rank of a job runs it; a node that is not fit is named, and the"
        " status is 87. On SLURM `tarmac launch` runs it before training (cluster.health).",
        epilog="Example: srun tarmac health --folder runs",
    )
    parser.add_argument(
        "--folder", action="append", default=[], metavar="DIR", help="must be writable; may be repeated"
    )
    parser.add_argument("--hosts", default="", metavar="A,B", help="all nodes, to name one that does not come")
    parser.add_argument("--bad-nodes", metavar="FILE", help="where to write the names of nodes that are not fit")
    for name, text in (
        ("matrix_share", "speed of matrix products beside the median (0.8)"),
        ("bandwidth_share", "speed of all-reduce with a neighbour beside the median (0.5)"),
        ("free_memory_share", "free memory of a GPU (0.9)"),
        ("clock_seconds", "how far clocks may be from the median (1)"),
        ("timeout_seconds", "how long ranks wait for each other (100)"),
    ):
        parser.add_argument(f"--{name.replace('_', '-')}", dest=name, type=float, metavar="X", help=text)
    parser.set_defaults(run=_health)


def _init(options: argparse.Namespace) -> None:
    from pipeline.config.starter import write_starter

    write_starter(options.path, options.stage)
    print(f"wrote {options.path}")


def _schema(options: argparse.Namespace) -> None:
    from pipeline.config.schema import schema_text

    print(schema_text(), end="")


def _data(options: argparse.Namespace) -> None:
    from pipeline.config.stages import load_stage
    from pipeline.stages.data.show import print_data_table

    config: Any = load_stage(options.config, options.overrides, allowed=("pretrain", "finetune"))
    print_data_table(config, options.json)


def _doctor(options: argparse.Namespace) -> None:
    from pipeline.config.stages import load_stage
    from pipeline.stages.doctor import examine

    config: Any = load_stage(options.config, options.overrides, allowed=("pretrain", "finetune"))
    examine(config, options.world_size, options.mttf_hours, options.device, options.tries)


def _health(options: argparse.Namespace) -> None:
    from pipeline.config.cluster import HealthCheck
    from pipeline.config.load import validate
    from pipeline.stages.health import check_health

    given = {name: value for name, value in vars(options).items() if name in HealthCheck.model_fields}
    limits = validate(HealthCheck, {name: value for name, value in given.items() if value is not None}, "health")
    hosts = [host for host in options.hosts.split(",") if host]
    check_health(limits, options.folder, hosts, options.bad_nodes)
