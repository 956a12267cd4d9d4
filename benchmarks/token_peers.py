"""The peers of token tasks: `transformers` generate, the unshared policy gradient, and TRL's `GRPOTrainer`.

They come with `pip install -e '.[benchmark]'`. Every function works on one Qwen2 model and on random or real prompts of
equal length, without a network, and gives every answer exactly T tokens, so that both sides of a comparison compute as
many. The model never ends an answer: the id that would end one lies outside its vocabulary.

B prompts, N rollouts of each, P and T tokens of a prompt and an answer, V words.
"""

import copy
import os
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import torch
from torch import Tensor

from maxrl_lab.errors import InputError

Attention = Literal["sdpa", "eager"]
PAD, BOS = 0, 1
VOCABULARY = 32


def stay_offline() -> None:
    """Let no peer ask a network; to be called before `transformers` is imported, which reads it once."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")  # `rollout_func` is a feature that TRL warns about


def installed() -> bool:
    """Return whether `transformers` and `trl` can be imported."""
    return all(find_spec(name) is not None for name in ("transformers", "trl"))


def tuned_environment() -> dict[str, str]:
    """Return variables, to be set before Python starts, that keep glibc from giving large tensors back to the system.

    Without them a large tensor is mapped anew each time, and the system clears its pages each time. The last one
    (OpenMP's) makes waiting threads sleep: spinning ones steal the cores when anything else runs on the machine.
    """
    never, step = str(2**32), str(2**26)
    return {
        "MALLOC_MMAP_THRESHOLD_": never,
        "MALLOC_TRIM_THRESHOLD_": never,
        "MALLOC_TOP_PAD_": step,
        "OMP_WAIT_POLICY": "passive",
    }


def fast_bfloat16() -> bool:
    """Return whether this machine multiplies matrices faster in bfloat16; without hardware it is 100 times slower."""
    return _matmul_seconds(torch.bfloat16) < _matmul_seconds(torch.float32)


def _matmul_seconds(dtype: torch.dtype, size: int = 512) -> float:
    matrix, times = torch.ones(size, size, dtype=dtype), []
    for _ in range(3):
        start = time.perf_counter()
        matrix @ matrix
        times.append(time.perf_counter() - start)
    return min(times)


def qwen2_config(**changes: Any) -> Any:
    """Return the `Qwen2Config` of the paper's maze policy (3.9M parameters), with any field changed."""
    from transformers import Qwen2Config

    shape = {
        "vocab_size": VOCABULARY,
        "hidden_size": 256,
        "intermediate_size": 1024,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "rms_norm_eps": 1e-6,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
        "tie_word_embeddings": True,
        "bos_token_id": BOS,
        "eos_token_id": None,
        "pad_token_id": PAD,
    }
    return Qwen2Config(**(shape | changes))


def make_model(
    config: Any, dtype: torch.dtype = torch.float32, attention: Attention = "sdpa", seed: int = 0
) -> torch.nn.Module:
    """Return a `Qwen2ForCausalLM` of random weights, drawn in float32, in evaluation mode."""
    from transformers import Qwen2ForCausalLM

    config = copy.deepcopy(config)
    config._attn_implementation = attention
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Qwen2ForCausalLM(config).to(dtype).eval()


def saved_model(folder: Path, prompts: int) -> tuple[Any, Any, list[str]]:
    """Return the model and tokenizer in a folder, and short questions."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = (kind.from_pretrained(folder) for kind in (AutoModelForCausalLM, AutoTokenizer))
    return model, tokenizer, [f"What is {7 * index + 3} + {5 * index + 11}? Answer:" for index in range(prompts)]


def generate(model: Any, prompts: Tensor, rollouts: int, new_tokens: int, *, prefill_once: bool = False) -> Tensor:
    """Return N sampled answers (B, N, T) of each prompt (B, P), by `transformers`' own `generate`.

    As its users call it, every rollout computes the prompt for itself (`num_return_sequences`). With `prefill_once`
    each prompt is computed once, and its keys and values are copied N times: an expert's use of the public cache.
    """
    settings = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0, "use_cache": True}
    settings |= {"max_new_tokens": new_tokens, "pad_token_id": PAD, "eos_token_id": None}
    with torch.inference_mode():
        if prefill_once:
            inputs: dict[str, Any] = _prefilled(model, prompts, rollouts)
        else:
            inputs = {"input_ids": prompts, "num_return_sequences": rollouts}
        inputs.setdefault("attention_mask", torch.ones_like(inputs["input_ids"]))
        tokens = model.generate(**inputs, **settings)
    return tokens[:, prompts.shape[1] :].unflatten(0, (len(prompts), rollouts))


def _prefilled(model: Any, prompts: Tensor, rollouts: int) -> dict[str, Any]:
    """Return the prompts, repeated, with the cache of all tokens but the last, which `generate` computes itself."""
    from transformers import DynamicCache

    cache = DynamicCache(config=model.config)
    model(prompts[:, :-1], past_key_values=cache, use_cache=True, logits_to_keep=1)
    cache.batch_repeat_interleave(rollouts)
    return {"input_ids": prompts.repeat_interleave(rollouts, dim=0), "past_key_values": cache}


def full_sequence_gradient(
    model: Any, prompts: Tensor, answers: Tensor, advantages: Tensor, micro_batch: int, *, autocast: bool = False
) -> float:
    """Accumulate the gradient of -mean(advantage · log p(answer)) over all B·N rollouts; return that loss.

    Prompts (B, P), answers (B, N, T), advantages (B, N). Every rollout is a row [prompt, answer] of its own, and
    `micro_batch` rows go forward and backward together; logits are computed where an answer is predicted only.
    `autocast` computes in bfloat16 from float32 weights.
    """
    rows = torch.cat([prompts.repeat_interleave(answers.shape[1], dim=0), answers.flatten(0, 1)], dim=1)
    total = 0.0
    model.zero_grad(set_to_none=True)
    for part, weights in zip(rows.split(micro_batch), advantages.flatten().split(micro_batch), strict=True):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            log_probs = _answer_log_probs(model, part, answers.shape[2])
        loss = -(weights * log_probs).sum() / len(rows)
        loss.backward()
        total += loss.item()
    return total


def _answer_log_probs(model: Any, rows: Tensor, new_tokens: int) -> Tensor:
    """Return the summed log-probability of the last `new_tokens` of each row."""
    logits = model(rows, use_cache=False, logits_to_keep=new_tokens + 1).logits[:, :-1].float()
    losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, -new_tokens:].flatten(), reduction="none")
    return -losses.unflatten(0, (len(rows), new_tokens)).sum(1)


def trl_step(
    model: Any,
    prompts: Tensor,
    rollouts: int,
    new_tokens: int,
    micro_batch: int,
    *,
    bf16: bool = False,
    prefill_once: bool = False,
    steps: int = 3,
    warm_up: int = 1,
    between: Callable[[], object] = lambda: None,
) -> list[float]:
    """Return the seconds of every `GRPOTrainer` step after the first ones: sample, reward, gradient, AdamW.

    `between` is called after every step, and its time is not counted: the other side of an interleaved comparison.

    The trainer gets a copy of the model; the gradient is accumulated over micro-batches of `micro_batch` rollouts.
    `bf16` is the trainer's own mixed precision; give a bfloat16 model for bfloat16 weights. With `prefill_once` the
    trainer samples by `generate(prefill_once=True)`, through its hook `rollout_func`.
    Raises `InputError` if an answer does not have exactly T tokens, or `micro_batch` does not divide B·N.
    """
    count = len(prompts) * rollouts
    if count % micro_batch:
        raise InputError(f"micro_batch must divide the {count} rollouts of a step, got {micro_batch}")
    with TemporaryDirectory() as folder:
        settings = _grpo_settings(Path(folder), count, rollouts, new_tokens, micro_batch, bf16, steps + warm_up)
        sample = _sample_prefilled if prefill_once else None
        trainer, clock = _grpo_trainer(copy.deepcopy(model), prompts, settings, sample, between)
        trainer.train()
    return list(clock.seconds[warm_up:])


def _grpo_settings(
    folder: Path, count: int, rollouts: int, new_tokens: int, micro_batch: int, bf16: bool, steps: int
) -> Any:
    from trl import GRPOConfig

    return GRPOConfig(
        output_dir=str(folder),
        per_device_train_batch_size=micro_batch,
        gradient_accumulation_steps=count // micro_batch,  # also the steps of a generation: on-policy, no second pass
        num_generations=rollouts,
        max_completion_length=new_tokens,
        max_steps=steps,
        beta=0.0,
        learning_rate=1e-4,
        lr_scheduler_type="constant",
        shuffle_dataset=False,
        gradient_checkpointing=False,
        bf16=bf16,
        use_cpu=True,
        dataloader_pin_memory=False,
        logging_strategy="no",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )


def _grpo_trainer(
    model: Any,
    prompts: Tensor,
    settings: Any,
    sample: Callable[..., dict[str, Any]] | None,
    between: Callable[[], object],
) -> tuple[Any, Any]:
    """Return the trainer, and the clock that notes when each of its steps ends."""
    from datasets import Dataset
    from transformers import PrinterCallback
    from trl import GRPOTrainer

    tokenizer, clock = make_tokenizer(model.config.vocab_size), make_clock(between)
    model.config.eos_token_id = model.generation_config.eos_token_id = tokenizer.eos_token_id
    trainer = GRPOTrainer(
        model=model,
        reward_funcs=_reward(settings.max_completion_length),
        args=settings,
        train_dataset=Dataset.from_dict({"prompt": as_texts(tokenizer, prompts)}),
        processing_class=tokenizer,
        rollout_func=sample,
        callbacks=[clock],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer, clock


def make_clock(between: Callable[[], object] = lambda: None) -> Any:
    """Return a callback with the `seconds` of each step; what `between` does after a step belongs to none."""
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        def __init__(self) -> None:
            self.seconds: list[float] = []
            self.start = 0.0

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self.start = time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.seconds.append(time.perf_counter() - self.start)
            between()
            self.start = time.perf_counter()

    return Clock()


def _reward(new_tokens: int) -> Callable[..., list[float]]:
    """Return a reward of 0 or 1 by the parity of an answer's ids, which refuses answers of another length."""

    def reward(completion_ids: list[list[int]], **_: Any) -> list[float]:
        lengths = {len(ids) for ids in completion_ids}
        if lengths != {new_tokens}:
            raise InputError(f"expected answers of {new_tokens} tokens, got lengths {sorted(lengths)}")
        return [float(sum(ids) % 2) for ids in completion_ids]

    return reward


def _sample_prefilled(texts: list[str], trainer: Any) -> dict[str, Any]:
    """Return ids of prompts and answers to TRL's texts, each N times in a row: this is TRL's hook for sampling."""
    rollouts = trainer.num_generations
    prompts = trainer.processing_class(texts[::rollouts], return_tensors="pt")["input_ids"]
    model = trainer.accelerator.unwrap_model(trainer.model)
    answers = generate(model, prompts, rollouts, trainer.max_completion_length, prefill_once=True)
    repeated = prompts.repeat_interleave(rollouts, dim=0).tolist()
    return {"prompt_ids": repeated, "completion_ids": answers.flatten(0, 1).tolist(), "logprobs": None}


def as_texts(tokenizer: Any, prompts: Tensor) -> list[str]:
    """Return the prompts as TRL takes them, checked to come back as the same ids."""
    texts = [" ".join(_word(token) for token in row) for row in prompts.tolist()]
    if tokenizer(texts)["input_ids"] != prompts.tolist():
        raise InputError(f"expected token ids below {tokenizer.vocab_size - 1}, got up to {int(prompts.max())}")
    return texts


def _word(token: int) -> str:
    """Return a word that is no part of another one, because special tokens are looked for inside of words."""
    return f"w{token:06d}"


def make_tokenizer(words: int) -> Any:
    """Return a tokenizer of V words and one more, which would end an answer and is beyond the model's vocabulary."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {_word(token): token for token in range(words + 1)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=_word(PAD)))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=_word(PAD), bos_token=_word(BOS), eos_token=_word(words)
    )
