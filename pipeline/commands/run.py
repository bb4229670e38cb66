"""Commands that run training, and that look after runs."""

import argparse
from collections.abc import Sequence
from contextlib import closing
from typing import Any

from pipeline.commands.arguments import add_acting, positive


def add_running(commands: Any) -> None:
    """Add `train`, `finetune`, `status`, `stop` and `sync`."""
    _add_training(commands)
    _add_runs(commands)


def _add_training(commands: Any) -> None:
    hint = "Start several ranks with `tarmac launch`, deepspeed or torchrun. "
    for name, stages, text in (
        ("train", ("pretrain",), "pre-train a model on a corpus"),
        ("finetune", ("finetune",), "fine-tune a run's checkpoint on conversations"),
    ):
        example = "configs/pretrain/demo.yaml batch.micro_size=8" if name == "train" else "configs/finetune/sft.yaml"
        parser = add_acting(commands, name, _train, text, f"tarmac {name} {example}")
        parser.description = f"{parser.description} {hint}"
        parser.add_argument("--local_rank", type=int, help=argparse.SUPPRESS)  # some launchers add it
        parser.set_defaults(stages=stages)


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
    stop.add_argument("--wait", type=positive(float), default=0.0, metavar="S", help="seconds to wait for it (0)")
    stop.set_defaults(run=_stop)
    sync = commands.add_parser(
        "sync",
        help="send Weights & Biases what it has not got of runs",
        description="Send Weights & Biases all that runs could not send while they trained: offline, or without an"
        " answer. All restarts of a run are one run there; what was sent is not sent again.",
        epilog="Example: WANDB_API_KEY=… tarmac sync runs/demo",
    )
    sync.add_argument("runs", metavar="RUN", nargs="+", help="run folders")
    sync.set_defaults(run=_sync)


def _train(options: argparse.Namespace) -> int:
    from pipeline.config.stages import load_stage
    from pipeline.runtime.signals import StopRequest

    config: Any = load_stage(options.config, options.overrides, allowed=options.stages)
    if options.dry_run:
        from pipeline.stages.plan import print_training_plan
        from pipeline.stages.resume_plan import print_resume

        print_training_plan(config)
        print_resume(config)
        return 0
    with closing(StopRequest()) as stop_request:  # before the imports, which take seconds: a signal would kill
        from pipeline.stages.train import train

        return train(config, stop_request)


def check(config: Any, made: Sequence[str] = ()) -> None:
    """Raise TarmacError if a config names what is not there, and in no output that an earlier step makes."""
    from pipeline.stages.check import check_inputs

    check_inputs(config, made)


def show_memory(config: Any, num_ranks: int) -> None:
    """Print what each of so many ranks needs."""
    from pipeline.stages.plan import print_memory

    print_memory(config, num_ranks)


def _status(options: argparse.Namespace) -> None:
    from pipeline.stages.status import print_status

    print_status(options.runs)


def _stop(options: argparse.Namespace) -> None:
    from pipeline.stages.status import stop

    stop(options.run_folder, options.wait)


def _sync(options: argparse.Namespace) -> int:
    from pipeline.stages.sync import sync

    return sync(options.runs)
