"""The parts of the report below the charts."""

from html import escape
from itertools import pairwise
from typing import Any

from pipeline.runtime.markup import (
    NONE_YET,
    duration,
    facts,
    fold,
    moment,
    number,
    paragraph,
    section,
    short,
    size,
    table,
)
from pipeline.stages.report.collect import RunReport
from pipeline.stages.report.history import Row, Session

MAX_SAMPLES = 40


def evaluations(report: RunReport) -> str:
    """What `tarmac eval` measured, and the validation inside the loop."""
    measured = [
        (
            number(row["step"]),
            f"{row['set']} (average of the weights)" if row.get("ema") else row["set"],
            number(row["loss"], 4),
            number(row["perplexity"], 2),
            number(row["bits_per_byte"], 4),
            number(row["tokens"]),
            number(_ratio(row), 3),
        )
        for row in report.evaluations
    ]
    inside = [
        (
            number(row["step"]),
            number(row["validation/loss"], 4),
            number(row.get("validation/bits_per_byte"), 4),
            number(row.get("validation/tokens")),
        )
        for row in report.validation
    ]
    heads = ("step", "set", "loss", "perplexity", "bits per byte", "tokens", "loss ÷ unigram")
    return section(
        f"{report.anchor}evaluations",
        "Evaluations",
        table("Evaluations", heads, measured)
        + "<h3>Validation during training</h3>"
        + table("Validation during training", ("step", "loss", "bits per byte", "tokens"), inside),
    )


def _ratio(row: Row) -> float | None:
    return row["loss"] / row["unigram_loss"] if row.get("unigram_loss") else None


def checkpoints(report: RunReport) -> str:
    """What was saved, and what of it is still there."""
    rows = [
        (number(one.step), moment(one.time), size(one.bytes), duration(one.seconds), one.state)
        for one in report.checkpoints
    ]
    heads = ("step", "saved (UTC)", "size", "took", "state")
    return section(f"{report.anchor}checkpoints", "Checkpoints", table("Checkpoints", heads, rows))


def restarts(report: RunReport) -> str:
    """How often the run began anew or went back, and what each time cost."""
    rows = [_restart(before, after) for before, after in pairwise(report.sessions)]
    heads = ("restarted (UTC)", "from step", "ranks", "steps done again", "standstill", "ended before by")
    told = table("Restarts", heads, rows)
    if back := [_rollback(event) for event in report.happened("rollback")]:
        told += "<h3>Rollbacks</h3>" + table(
            "Rollbacks", ("rolled back (UTC)", "from step", "to step", "skipped"), back
        )
    return section(f"{report.anchor}restarts", "Restarts and rollbacks" if back else "Restarts", told)


def _rollback(event: Row) -> tuple[str, ...]:
    return (moment(event["time"]), number(event["from_step"]), number(event["step"]),
            f"data of {number(event['skipped_steps'])} steps")  # fmt: skip


def _restart(before: Session, after: Session) -> tuple[str, ...]:
    ranks = (
        str(after.world_size) if after.world_size == before.world_size else f"{before.world_size} → {after.world_size}"
    )
    return (
        moment(after.started),
        number(after.step),
        ranks,
        number(max(0, before.last_step - after.step)),
        duration(after.started - before.ended),
        before.reason or "a kill or a crash",
    )


def samples(report: RunReport) -> str:
    """What the model wrote, the newest first."""
    shown = report.samples[: -MAX_SAMPLES - 1 : -1]
    left_out = len(report.samples) - len(shown)
    more = paragraph(f"{left_out} older ones are in samples.jsonl.") if left_out else ""
    told = "".join(map(_sample, shown)) or paragraph(NONE_YET)
    return section(f"{report.anchor}samples", "Samples", told + more)


def _sample(row: Row) -> str:
    about = f"step {number(row['step'])}, temperature {row['temperature']}, seed {row['seed']}"
    return (
        f'<figure class="sample"><figcaption>{escape(about)}</figcaption>'
        f"<pre><b>{escape(row['prompt'])}</b>{escape(row['continuation'])}</pre></figure>"
    )


def settings(report: RunReport) -> str:
    """The resolved config and the machine."""
    environment = report.environment
    pairs = [(name, _plain(value)) for name, value in environment.items() if name != "versions"]
    versions = [(name, str(value)) for name, value in sorted(environment.get("versions", {}).items())]
    return section(
        f"{report.anchor}config",
        "Settings",
        fold("Resolved config", f"<pre><code>{escape(report.config_text)}</code></pre>")
        + fold(
            "Machine and versions", facts([*pairs, *versions], "facts") if pairs or versions else paragraph(NONE_YET)
        ),
    )


def _plain(value: Any) -> str:
    return short(value) if isinstance(value, int | float) and abs(value) >= 10_000 else str(value)
