"""`tarmac generate`: continue a prompt, or show the model examples first and measure what they change."""

import argparse
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from pipeline.config.data import InstructData
from pipeline.config.run import RunConfig
from pipeline.data.chat import Message, render, render_prompt
from pipeline.errors import CorpusError
from pipeline.evaluation.pairs import read_pairs
from pipeline.evaluation.shots import Render, ShotRow, Target, choose_targets, measure_shots, render_plain
from pipeline.generation.generate import generate as generate_ids
from pipeline.generation.generate import max_positions
from pipeline.generation.sampling import Sampling
from pipeline.runtime.files import append_json_line
from pipeline.stages.masking import require_causal
from pipeline.stages.trained import TrainedModel, load_for_inference
from pipeline.tokenizer.base import Tokenizer


def generate_from_options(options: argparse.Namespace) -> None:
    """`tarmac generate` with parsed options: `few_shot` if given (empty: the run's own pairs), else `generate`."""
    sampling = Sampling(options.max_new_tokens, options.temperature, options.top_k, options.top_p, options.seed)
    run, chosen = options.run_folder, {"step": options.step, "ema": options.ema, "chat": options.chat}
    if options.few_shot is not None:
        few_shot(run, options.few_shot or None, sampling, **chosen)
    else:
        generate(run, options.prompt, sampling, num_samples=options.num_samples, **chosen)


def generate(
    run: str | Path,
    prompt: str,
    sampling: Sampling,
    *,
    step: int | None = None,
    ema: bool = False,
    num_samples: int = 1,
    chat: bool = False,
    console: Console | None = None,
) -> list[str]:
    """Print continuations of a prompt and append them to the run's `samples.jsonl`.

    Args:
        run: The run folder.
        prompt: Text to continue; nothing at all starts a new document.
        sampling: How tokens are drawn; sample n uses seed + n, so that each can be had again alone.
        step: Which checkpoint; the newest good one if None.
        ema: The average of its weights that the run kept, instead of the weights.
        num_samples: How many continuations.
        chat: Give the prompt as a user's message in the form that chat-tuned runs learned.
        console: Where to print; standard output if None.

    Raises:
        GenerationError: The prompt does not fit the model, or the run predicts masked tokens.
        RunError, CheckpointError: The run cannot be loaded.
    """
    require_causal(run)
    trained = load_for_inference(run, step, ema)
    ids = prompt_ids(prompt, trained.tokenizer, chat)
    if chat and not isinstance(trained.config.data, InstructData):
        _say(console or Console(), "(this run never learned conversations; leave --chat out to continue plain text)")
    return [
        continue_prompt(trained, prompt, ids, replace(sampling, seed=sampling.seed + number), console or Console())
        for number in range(num_samples)
    ]


def prompt_ids(prompt: str, tokenizer: Tokenizer, chat: bool) -> list[int]:
    """A prompt's ids: as text, or as a user's message up to where the answer begins."""
    if chat:
        return render_prompt([Message(role="user", content=prompt)], tokenizer)
    return tokenizer.encode(prompt) or [tokenizer.eos_id]  # what a new document follows in training


def continue_prompt(
    trained: TrainedModel, prompt: str, ids: Sequence[int], sampling: Sampling, console: Console
) -> str:
    """One continuation, printed and appended to the run's `samples.jsonl`."""
    tokenizer = trained.tokenizer
    ends = [token for token in (tokenizer.eos_id, tokenizer.control_id("<|end|>")) if token is not None]
    new_ids = list(generate_ids(trained.model, ids, eos_id=ends, **asdict(sampling)))
    continuation = tokenizer.decode(new_ids)
    _show(console, f"prompt (seed {sampling.seed})", prompt)
    _show(console, f"continuation (step {trained.step})", continuation)
    if len(ids) + len(new_ids) == max_positions(trained.model) and len(new_ids) < sampling.max_new_tokens:
        _say(console, f"(stopped at the model's {max_positions(trained.model)} positions)")
    row = {"time": round(time.time(), 3), "step": trained.step, "prompt": prompt, "continuation": continuation}
    append_json_line(trained.run / "samples.jsonl", {**row, "temperature": sampling.temperature, "seed": sampling.seed})
    return continuation


def few_shot(
    run: str | Path,
    pairs: str | Path | None,
    sampling: Sampling,
    *,
    step: int | None = None,
    ema: bool = False,
    chat: bool = False,
    console: Console | None = None,
) -> list[ShotRow]:
    """Print a few-shot prompt with its continuation, and the loss of answers after k = 0, 1, 2, 4 examples.

    Args:
        run: The run folder.
        pairs: JSON lines of conversations; None takes the held-out pairs of the run's own data.
        sampling: How the continuation is drawn.
        step: Which checkpoint; the newest good one if None.
        ema: The average of its weights that the run kept, instead of the weights.
        chat: Show the examples as turns of a chat instead of plain text.
        console: Where to print; standard output if None.

    Raises:
        GenerationError: The run predicts masked tokens.
        CorpusError: The file is missing, damaged, or has too few short pairs.
        RunError, CheckpointError: The run cannot be loaded.
    """
    console = console or Console()
    require_causal(run)
    trained = load_for_inference(run, step, ema)
    render_shots: Render = render if chat else render_plain
    found = read_pairs(pairs or default_pairs(trained.config))
    longest = max(trained.config.tokens_by_length(trained.step))
    length = min(longest, max_positions(trained.model) or 2**63)
    targets = choose_targets(found, trained.tokenizer, render_shots, length)
    _show_example(trained, targets[0], sampling, chat, console)
    rows = measure_shots(trained.model, targets, trained.tokenizer, render_shots)
    _print_table(console, rows, len(targets))
    return rows


def default_pairs(config: RunConfig) -> Path:
    """The held-out conversations of a run's data. Raises CorpusError if its corpus has none."""
    if isinstance(config.data, InstructData):
        return Path(config.data.validation)
    corpus = Path(config.data.sources[0].corpus)
    path = corpus / "pairs" / "validation.jsonl"
    if not path.is_file():
        raise CorpusError(f"corpus {corpus} has no pairs/validation.jsonl; name a file of pairs after --few-shot")
    return path


def _show_example(trained: TrainedModel, target: Target, sampling: Sampling, chat: bool, console: Console) -> None:
    messages = target.conversation(len(target.examples))[:-1]
    tokenizer = trained.tokenizer
    ids = render_prompt(messages, tokenizer) if chat else render_plain(messages, tokenizer)[0]
    text = tokenizer.decode(ids)
    continue_prompt(trained, text, ids, sampling, console)
    _show(console, "the true answer", target.pair[-1]["content"])


def _print_table(console: Console, rows: Sequence[ShotRow], num_targets: int) -> None:
    table = Table(title=f"Loss of {num_targets} answers ({rows[0].total.tokens:,} tokens) after k examples")
    for heading in ("k", "examples", "nats/token", "change from k = 0", "standard error"):
        table.add_column(heading, justify="left" if heading == "examples" else "right")
    for row in rows:
        examples = "none" if row.shots == 0 else "answers exchanged" if row.exchanged else "true"
        change = ("", "") if row.shots == 0 else (f"{row.difference:+.4f}", f"{row.error:.4f}")
        table.add_row(str(row.shots), examples, f"{row.total.loss:.4f}", *change)
    console.print(table)
    _say(console, conclusion(rows))


def conclusion(rows: Sequence[ShotRow]) -> str:
    """What the figures say about in-context learning, and no more."""
    k = max(row.shots for row in rows)
    true, control = (next(row for row in rows if row.shots == k and row.exchanged == one) for one in (False, True))
    return (
        f"In-context learning, as measured: after {k} examples the loss {_change(true)};"
        f" after the same examples with their answers exchanged it {_change(control)}."
    )


def _change(row: ShotRow) -> str:
    if not abs(row.difference) > 2 * row.error:
        word = "does not change beyond two standard errors"
    else:
        word = "falls" if row.difference < 0 else "rises"
    return f"{word} ({row.difference:+.4f} ± {row.error:.4f} nats per token)"


def _show(console: Console, heading: str, text: str) -> None:
    console.rule(heading, align="left")
    _say(console, text)


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)
