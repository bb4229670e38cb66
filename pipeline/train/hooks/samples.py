"""Continuations of fixed prompts, written while the model trains."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from transformers import PreTrainedModel

from pipeline.config.measuring import Samples
from pipeline.engine.engine import Engine
from pipeline.engine.generation import generating
from pipeline.errors import GenerationError
from pipeline.generation.generate import generate
from pipeline.runtime.logs import get_logger
from pipeline.runtime.records import Records
from pipeline.runtime.seeds import derive_seed
from pipeline.tokenizer.base import Tokenizer
from pipeline.train.loop import StepInfo

_log = get_logger("samples")


class SamplesHook:
    """Writes samples every so many steps and at the end, in the rows of `tarmac generate`.

    All ranks generate alike, and as many tokens whatever they are: at ZeRO 3 each takes all of them. Draws come out of
    generators of their own, so that training is what it would be without.
    """

    def __init__(
        self, engine: Engine, tokenizer: Tokenizer, settings: Samples, folder: Path, beat: Callable[[str], None]
    ) -> None:
        """Set up.

        Args:
            engine: What generates.
            tokenizer: The run's.
            settings: What is generated, and when.
            folder: The run folder; rank 0 appends to its `samples.jsonl`.
            beat: Tells the watchdog of progress.

        Raises:
            GenerationError: A prompt leaves no room in the model, on all ranks.
        """
        self._engine, self._tokenizer, self._settings, self._beat = engine, tokenizer, settings, beat
        self._rows = Records(folder / "samples.jsonl", synced=True)
        self._ends = {tokenizer.eos_id, tokenizer.control_id("<|end|>")}
        self._prompts = [tokenizer.encode(prompt) or [tokenizer.eos_id] for prompt in settings.prompts]
        with generating(engine) as model:
            for number in range(len(self._prompts)):
                self._drawn(model, number)

    def __call__(self, info: StepInfo) -> None:
        """Generate when it is time."""
        if info.step % self._settings.every_steps == 0 or info.is_last:
            self.write(info.step)
        if info.is_last:
            self._rows.close()

    def write(self, step: int) -> None:
        """Generate; a model that gives no finite logits is told of and writes none."""
        try:
            with generating(self._engine) as model:
                texts = [self._text(model, number) for number in range(len(self._prompts))]
        except GenerationError as error:
            _log.warning("step %d: no samples: %s", step, error)
            return
        if self._engine.group.ranks.is_main:
            for number, text in enumerate(texts):
                self._rows.append({
                    "time": round(time.time(), 3), "step": step, "prompt": self._settings.prompts[number],
                    "continuation": text, "temperature": self._settings.temperature, "seed": self._seed(number),
                })  # fmt: skip

    def _text(self, model: PreTrainedModel, number: int) -> str:
        """Of one prompt, up to the first end; what comes behind it is drawn for nothing."""
        self._beat(f"sample {number}")
        ids = list(self._drawn(model, number))
        end = next((place for place, token in enumerate(ids) if token in self._ends), None)
        return self._tokenizer.decode(ids[:end])

    def _drawn(self, model: PreTrainedModel, number: int) -> Iterator[int]:
        return generate(
            model, self._prompts[number], max_new_tokens=self._settings.max_tokens,
            temperature=self._settings.temperature, seed=self._seed(number),
            vocab_size=self._tokenizer.vocab_size,
        )  # fmt: skip

    def _seed(self, number: int) -> int:
        return derive_seed(self._engine.config.seed, "sample", number)
