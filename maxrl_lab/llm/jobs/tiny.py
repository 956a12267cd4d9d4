"""The model of a dry run: a random language model of two layers and a byte-level tokenizer, made in a moment.

Its architecture is the real model's. So that some of its answers are right, each answer to the problems of the dry run
is one token, and these tokens and the end tokens are likelier than others.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from maxrl_lab.llm import need
from maxrl_lab.llm.jobs.recipe import EMBEDDED

ARCHITECTURES: Mapping[str, str] = {EMBEDDED: "Llama", "HuggingFaceTB/SmolLM2": "Llama", "Qwen/Qwen3": "Qwen3"}
"""The beginning of a model's name to transformers' name of its architecture."""
CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
END, START = "<|im_end|>", "<|im_start|>"
_WIDTH, _CONTEXT = 64, 4096
_LIKELIER = 6.0
"""What is added, approximately, to the logits of the tokens that are to be likely."""


def architecture(model: str) -> str:
    """Return the architecture of a model by its name; Llama for an unknown one."""
    return next((name for start, name in ARCHITECTURES.items() if model.startswith(start)), "Llama")


def save(folder: Path, model: str, answers: Sequence[str], end: str) -> None:
    """Write a tiny model of the architecture of `model` with its tokenizer, as safetensors; the same every time."""
    tokenizer = _tokenizer(answers)
    ends = [END, *([end] if end else [])]
    likely = [token for text in (*answers, *ends) for token in tokenizer(text, add_special_tokens=False)["input_ids"]]
    _model(architecture(model), len(tokenizer), tokenizer.eos_token_id, likely).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _tokenizer(answers: Sequence[str]) -> Any:
    tokenizers, transformers = need("tokenizers"), need("transformers")
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    bytewise = tokenizers.Tokenizer(tokenizers.models.BPE({byte: index for index, byte in enumerate(alphabet)}, []))
    bytewise.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    bytewise.decoder = tokenizers.decoders.ByteLevel()
    bytewise.add_special_tokens([START, END])
    bytewise.add_tokens([text for text in answers if len(text) > 1])
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=bytewise, eos_token=END, pad_token=END)
    tokenizer.chat_template = CHAT
    return tokenizer


def _model(architecture: str, vocabulary: int, end: int, likely: Sequence[int]) -> Any:
    transformers = need("transformers")
    config = getattr(transformers, f"{architecture}Config")(
        vocab_size=vocabulary,
        hidden_size=_WIDTH,
        intermediate_size=2 * _WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=_WIDTH // 4,
        max_position_embeddings=_CONTEXT,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=end,
        pad_token_id=end,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = getattr(transformers, f"{architecture}ForCausalLM")(config)
    with torch.no_grad():  # the first coordinate hardly varies, so the last layer's weight of it acts as a bias
        model.model.embed_tokens.weight[:, 0] = 1.0
        model.lm_head.weight[list(likely), 0] = _LIKELIER / _WIDTH**0.5
    return model
