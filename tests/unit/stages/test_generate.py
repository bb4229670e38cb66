import argparse
import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from pipeline.data.chat import Message, render_prompt
from pipeline.errors import CorpusError, GenerationError
from pipeline.generation.generate import generate as generate_ids
from pipeline.generation.sampling import Sampling
from pipeline.runtime.files import read_json_lines
from pipeline.stages.generate import conclusion, few_shot, generate, generate_from_options, prompt_ids
from pipeline.stages.trained import load_trained
from pipeline.tokenizer.base import Tokenizer
from tests.unit.small import small_corpus, small_model, small_run, small_texts, small_tokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return small_tokenizer(tmp_path_factory.mktemp("generate") / "tokenizer")


@pytest.fixture
def run(tmp_path: Path, tokenizer: Tokenizer) -> Path:
    small_corpus(tmp_path / "corpus", tokenizer, small_texts(5), small_texts(3))
    source = {"corpus": str(tmp_path / "corpus"), "source": "small"}
    data = {"type": "corpus", "sources": [source], "sequence_length": 200}
    return small_run(tmp_path / "run", tokenizer, small_model(tokenizer.vocab_size), data)


def write_pairs(path: Path, number: int = 20) -> Path:
    path.parent.mkdir(exist_ok=True)
    rows = [
        {"messages": [{"role": "user", "content": f"step_{n}"}, {"role": "assistant", "content": f"It adds {n}."}]}
        for n in range(number)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def screen() -> Console:
    return Console(file=io.StringIO(), width=160)


def options(run: Path, **changed: Any) -> argparse.Namespace:
    values = {
        "run_folder": str(run), "prompt": "def ", "chat": False, "few_shot": None, "max_new_tokens": 5,
        "temperature": 0.8, "top_k": 50, "top_p": 0.95, "seed": 0, "num_samples": 1, "step": None, "ema": False,
    }  # fmt: skip
    return argparse.Namespace(**{**values, **changed})


def test_samples_are_printed_kept_and_repeatable_alone(run: Path) -> None:
    console = screen()
    texts = generate(run, "def step", Sampling(12, seed=4), num_samples=3, console=console)
    assert len(set(texts)) == 3
    printed = console.file.getvalue()
    assert "def step" in printed
    rows = read_json_lines(run / "samples.jsonl")
    assert [(row["seed"], row["continuation"]) for row in rows] == [(4 + number, texts[number]) for number in range(3)]
    assert set(rows[0]) == {"time", "step", "prompt", "continuation", "temperature", "seed"}
    assert generate(run, "def step", Sampling(12, seed=6), console=screen()) == texts[2:]


def test_a_chat_with_a_run_that_never_learned_one_is_told(run: Path) -> None:
    console = screen()
    generate(run, "def step", Sampling(2), chat=True, console=console)
    assert "never learned conversations; leave --chat out" in console.file.getvalue()
    assert "continuation (step 3)" in console.file.getvalue()


def test_the_continuation_is_the_models(run: Path, tokenizer: Tokenizer) -> None:
    model = load_trained(run, dtype="fp32").model
    ids = list(generate_ids(model, tokenizer.encode("def "), temperature=0, max_new_tokens=15, eos_id=tokenizer.eos_id))
    assert generate(run, "def ", Sampling(15, temperature=0), console=screen()) == [tokenizer.decode(ids)]


def test_prompts_as_text_as_chat_and_as_nothing(tokenizer: Tokenizer) -> None:
    assert prompt_ids("def f", tokenizer, chat=False) == tokenizer.encode("def f")
    assert prompt_ids("", tokenizer, chat=False) == [tokenizer.eos_id]
    chat = prompt_ids("def f", tokenizer, chat=True)
    assert chat == render_prompt([Message(role="user", content="def f")], tokenizer)
    assert chat[-1] == tokenizer.control_id("<|assistant|>")


def test_a_prompt_that_does_not_fit_is_refused(run: Path) -> None:
    with pytest.raises(GenerationError, match=r"the model has 256 positions; shorten it"):
        generate(run, "xyz " * 300, Sampling(), console=screen())
    assert not (run / "samples.jsonl").exists()


def test_markup_in_text_is_printed_as_it_is(run: Path) -> None:
    console = screen()
    generate(run, "x = [bold]", Sampling(1), console=console)
    assert "x = [bold]" in console.file.getvalue()


@pytest.mark.parametrize("chat", [False, True])
def test_few_shot_prints_every_loss_as_it_is(run: Path, chat: bool) -> None:
    write_pairs(run.parent / "corpus" / "pairs" / "validation.jsonl")
    console = screen()
    rows = few_shot(run, None, Sampling(8), chat=chat, console=console)
    printed = console.file.getvalue()
    assert [(row.shots, row.exchanged) for row in rows] == [
        (0, False), (1, False), (2, False), (4, False), (2, True), (4, True)
    ]  # fmt: skip
    for row in rows:
        assert f"{row.total.loss:.4f}" in printed
    assert conclusion(rows) in printed
    prompt = read_json_lines(run / "samples.jsonl")[0]["prompt"]
    assert prompt.count("It adds") == 4
    assert prompt.count("step_") == 5


def test_the_conclusion_says_falls_only_where_it_falls(run: Path) -> None:
    write_pairs(run.parent / "corpus" / "pairs" / "validation.jsonl")
    for row in few_shot(run, None, Sampling(1), console=screen()):
        if row.shots == 4:
            clear = abs(row.difference) > 2 * row.error
            word = (
                ("falls" if row.difference < 0 else "rises") if clear else "does not change beyond two standard errors"
            )
            assert f"{word} ({row.difference:+.4f}" in conclusion(
                [row, row.__class__(4, not row.exchanged, row.total, 0.0, 1.0)]
            )


def test_a_corpus_without_pairs_is_named(run: Path) -> None:
    with pytest.raises(CorpusError, match=r"has no pairs/validation\.jsonl; name a file of pairs"):
        few_shot(run, None, Sampling(), console=screen())


def test_the_commands_options_lead_to_both(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generate_from_options(options(run, num_samples=2))
    assert len(read_json_lines(run / "samples.jsonl")) == 2
    capsys.readouterr()
    generate_from_options(options(run, few_shot=str(write_pairs(run.parent / "mine" / "pairs.jsonl"))))
    assert "In-context learning, as measured" in capsys.readouterr().out
