"""A language model that TRL trains in a second, and a trainer that keeps what reaches its loss.

The tests of `maxrl_lab.llm.trl` share it; that of several processes runs `python tests/support/small_llm.py FOLDER`.
"""

import os
import sys
from collections import Counter
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")  # `rollout_func` is a feature it warns about

import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM, TrainerCallback

from maxrl_lab.llm.trl import EstimatorTrainer, settings

PAD, BOS, END = 0, 1, 2
WORDS = ("<pad>", "<bos>", "<eos>", *"abcdefgh")
PROMPTS = ("a", "b c d e f", "g h", "a c e", "b", "h g f e", "c c", "d a d a")
"""Of 1 to 5 tokens, all different."""
LONGEST = 4


def small_model(dtype=torch.float32):
    """A Qwen2 of two layers whose every weight is far from where it starts, so that answers differ in length."""
    config = Qwen2Config(
        vocab_size=len(WORDS),
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=32,
        tie_word_embeddings=True,
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=END,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Qwen2ForCausalLM(config)
        with torch.no_grad():
            for each in model.parameters():
                each.add_(torch.randn_like(each), alpha=0.3)
    return model.to(dtype)


def small_tokenizer():
    """Whole words between spaces."""
    tokenizer = Tokenizer(models.WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token=WORDS[PAD]))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    names = {"pad_token": WORDS[PAD], "bos_token": WORDS[BOS], "eos_token": WORDS[END]}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


class Parity:
    """Right is an answer whose ids sum to an odd number; remembers (prompts, answers, rewards) of every call."""

    __name__ = "parity"

    def __init__(self):
        self.calls = []

    def __call__(self, prompts, completion_ids, **_):
        rewards = [float(sum(ids) % 2) for ids in completion_ids]
        self.calls.append((prompts, completion_ids, rewards))
        return rewards


class Watched(EstimatorTrainer):
    """Keeps what reaches the loss: (generation, prompt ids, answer ids, advantage) of every row, batch by batch."""

    def __init__(self, *args, **others):
        self.seen, self.gradients = [], []
        super().__init__(*args, callbacks=[_KeepGradients(self)], **others)

    def compute_loss(self, model, inputs, *args, **others):
        def ids(kind):
            rows = zip(inputs[f"{kind}_ids"], inputs[f"{kind}_mask"].bool(), strict=True)
            return [tuple(row[mask].tolist()) for row, mask in rows]

        generation = len(self.reward_funcs[0].calls) - 1
        advantages = [round(each, 5) for each in inputs["advantages"].tolist()]
        rows = zip(ids("prompt"), ids("completion"), advantages, strict=True)
        self.seen.append([(generation, *row) for row in rows])
        return super().compute_loss(model, inputs, *args, **others)

    def rows(self, generation):
        """How often each (prompt ids, answer ids, advantage) of a generation has reached the loss."""
        return Counter(row[1:] for batch in self.seen for row in batch if row[0] == generation)


class _KeepGradients(TrainerCallback):
    """The gradient that every optimiser step is about to use."""

    def __init__(self, trainer):
        self.trainer = trainer

    def on_pre_optimizer_step(self, args, state, control, model=None, **_):
        named = model.named_parameters()
        self.trainer.gradients.append({name: each.grad.clone() for name, each in named if each.grad is not None})


def small_settings(folder, **changes):
    """Three groups of 4 a step, in two micro-batches of 6, by plain gradient descent without clipping."""
    return settings(
        folder,
        **{
            "num_generations": 4,
            "per_device_train_batch_size": 6,
            "gradient_accumulation_steps": 2,
            "max_completion_length": LONGEST,
            "max_steps": 1,
            "learning_rate": 0.05,
            "lr_scheduler_type": "constant",
            "optim": "sgd",
            "max_grad_norm": 0.0,
            "gradient_checkpointing": False,
            "use_cpu": True,
            "bf16": False,
            "dataloader_pin_memory": False,
            "report_to": "none",
            "disable_tqdm": True,
            "logging_strategy": "no",
            "save_strategy": "no",
            **changes,
        },
    )


def small_trainer(
    folder, estimator="maxrl", *, model=None, reward=None, allow=(), lost="refuse", others=None, **changes
):
    """A trainer of the small model on `PROMPTS` by parity; `others` are GRPOTrainer's own arguments."""
    return Watched(
        model or small_model(),
        reward or Parity(),
        small_settings(folder, **changes),
        estimator=estimator,
        allow=allow,
        lost=lost,
        train_dataset=Dataset.from_dict({"prompt": list(PROMPTS)}),
        processing_class=small_tokenizer(),
        **(others or {}),
    )


def always(answers):
    """TRL's hook for sampling that gives the same answers in every generation, whoever asks for which."""

    def rollout(prompts, trainer):
        first = trainer.accelerator.process_index * len(prompts)
        own = [list(answers[place % len(answers)]) for place in range(first, first + len(prompts))]
        return {"prompt_ids": small_tokenizer()(prompts)["input_ids"], "completion_ids": own, "logprobs": None}

    return {"rollout_func": rollout}


_GROUPS = (
    ((4, END), (4, END), (4, END), (4, END)),  # K = 0: the sums are 6
    ((3, END), (4, 4, END), (6, 5, 5, 10), (3, 3, END)),  # K = 1: 5, 10, 26, 8
    ((3, END), (5, 4, 4, END), (7, 10, 10, 10), (9, END)),  # K = 4: 5, 15, 37, 11
)
MIXED = tuple(answer for group in _GROUPS for answer in group)
"""Twelve answers of 2 to 4 tokens, two of them cut off: groups of 4 with 0, 1 and 4 successes."""


def main(folder):
    """Train two steps on fixed answers, 12 a step over all processes, and keep parameters and rows by process."""
    world = int(os.environ["WORLD_SIZE"])
    trainer = small_trainer(folder, "maxrl", others=always(MIXED), max_steps=2, per_device_train_batch_size=6 // world)
    trainer.train()
    torch.save(
        {"state": small_state(trainer), "seen": trainer.seen}, folder / f"{trainer.accelerator.process_index}.pt"
    )


def small_state(trainer):
    """The trained parameters by name."""
    return {name: each.detach().clone() for name, each in trainer.model.named_parameters()}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
