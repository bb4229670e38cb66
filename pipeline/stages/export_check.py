"""What a stranger gets from an exported folder: run as a process of its own, it uses none of Tarmac.

`python -m pipeline.stages.export_check FOLDER PROBES RESULT` loads FOLDER by plain AutoTokenizer and
AutoModelForCausalLM, or AutoModelForMaskedLM where its config names such a model, and answers PROBES (JSON: `texts`,
`sequences` of ids, `chats` of messages) in the folder RESULT: `logits.safetensors` holds one tensor (L, V) per
sequence, `tokens.json` the ids of each text and chat.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer, PreTrainedModel

LOGITS_NAME = "logits.safetensors"
TOKENS_NAME = "tokens.json"


@torch.inference_mode()
def probe_logits(model: PreTrainedModel, sequences: Sequence[Sequence[int]]) -> dict[str, torch.Tensor]:
    """Logits (L, V) of each sequence, by its number, in the model's own type."""
    return {
        str(number): model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].contiguous()
        for number, ids in enumerate(sequences)
    }


def main(folder: str, probes_path: str, result: str) -> None:
    """Answer the probes."""
    probes = json.loads(Path(probes_path).read_text(encoding="utf-8"))
    is_masked = AutoConfig.from_pretrained(folder).architectures[0].endswith("ForMaskedLM")
    model = (AutoModelForMaskedLM if is_masked else AutoModelForCausalLM).from_pretrained(folder)
    save_file(probe_logits(model, probes["sequences"]), Path(result) / LOGITS_NAME)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = [tokenizer(text, add_special_tokens=False).input_ids for text in probes["texts"]]
    chats = [
        tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False) for chat in probes["chats"]
    ]
    answers = {"texts": texts, "decoded": [tokenizer.decode(ids) for ids in texts], "chats": chats}
    Path(result, TOKENS_NAME).write_text(json.dumps(answers), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
