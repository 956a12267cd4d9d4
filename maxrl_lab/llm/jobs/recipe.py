"""A fine-tuning job as data: which model, which problems, how many rollouts, and what it takes.

`training.train` runs it with TRL on whatever machines accelerate gives it; `experiments.llm` holds the recipes.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeVar

from maxrl_lab import exact, specs
from maxrl_lab.errors import InputError
from maxrl_lab.llm.models.sampling import Sampling
from maxrl_lab.llm.problems import rewards, tasks

EMBEDDED = "embedded"
"""The model of `llm.weights`."""
_GIB = 2**30


class Size(NamedTuple):
    """What memory depends on: a decoder's parameters, layers, widths and vocabulary."""

    parameters: float
    layers: int
    width: int
    mlp: int
    vocabulary: int
    kv_width: int
    """Keys' width: key-value heads times their size."""
    query_width: int
    """Queries' width: heads times their size."""


MODELS: Mapping[str, Size] = {
    EMBEDDED: Size(134.5e6, 30, 576, 1536, 49152, 192, 576),
    "HuggingFaceTB/SmolLM2-360M-Instruct": Size(361.8e6, 32, 960, 2560, 49152, 320, 960),
    "Qwen/Qwen3-1.7B-Base": Size(1.721e9, 28, 2048, 6144, 151936, 1024, 2048),
    "Qwen/Qwen3-4B-Base": Size(4.022e9, 36, 2560, 9728, 151936, 1024, 4096),
}
"""Known models; for others `memory` says that it does not know."""


@dataclass(frozen=True)
class Recipe:
    """One fine-tuning job. The defaults are a small one on the embedded model, without a network or a GPU."""

    model: str = EMBEDDED
    """embedded (`make llm`), a folder, or a name on the Hugging Face hub."""
    source: str = "reasoning_gym/chain_sum"
    """Training problems: reasoning_gym/TASK, or a collection of `llm.sources`."""
    config: str = "{}"
    """Of a reasoning-gym task, as JSON."""
    tests: tuple[str, ...] = ()
    """Collections evaluated on; none: the held-out split of `source`."""
    template: str = "boxed"
    """A name of `data.TEMPLATES`, or a text with {question} in it."""
    shots: int = 0
    """Worked examples of a reasoning-gym task before each question, a line each."""
    chat: bool = True
    """Whether the prompt is a user's turn in the model's chat format, or plain text that the model continues."""
    extraction: str = "boxed"
    """Where the answer stands: boxed, line, tag or number."""
    end: str = ""
    """A token that ends an answer besides the model's own."""
    train_problems: int = 0
    """Training problems; 0 is all of a collection."""
    test_problems: int = 0
    """Problems evaluated on, of each collection; 0 is all."""
    prompts: int = 32
    """B, problems in an update."""
    rollouts: int = 32
    """N, answers to each."""
    steps: int = 500
    """Updates."""
    learning_rate: float = 1e-5
    """Of AdamW, constant."""
    clip: float = 1.0
    """Largest norm of an update's gradient."""
    token_mean: bool = False
    """Average over the batch's tokens, as the paper does (App. F), which favours short answers; else sum over each."""
    temperature: float = 1.0
    """Of the answers that are learnt from."""
    prompt_length: int = 512
    """Most tokens of a prompt, for what is computed of memory and speed."""
    answer_length: int = 512
    """Most tokens of an answer; longer ones are cut off, and wrong."""
    micro_batch: int = 32
    """Rollouts that a device differentiates together."""
    precision: str = "float32"
    """Of the arithmetic: float32, or bfloat16 with float32 weights."""
    checkpointing: bool = False
    """Whether activations are computed twice to save memory."""
    lora: int = 0
    """Rank of low-rank adapters (peft) that are trained instead of all weights; 0 is all weights."""
    vllm: bool = False
    """Whether vLLM draws the answers, beside the trainer on its GPUs."""
    save_every: int = 50
    """Updates between checkpoints."""
    samples: int = 16
    """n, answers to each problem evaluated on."""
    test_temperature: float = 0.6
    """Of evaluation (App. E.2)."""
    test_top_p: float = 0.95
    """Of evaluation."""
    hardware: str = "a laptop, or one GPU"
    """What it is meant for."""

    def __post_init__(self) -> None:
        """Check what can be checked without the model."""
        for name in ("prompts", "rollouts", "steps", "answer_length", "prompt_length", "micro_batch", "save_every"):
            specs.check_count(name, getattr(self, name))
        for name in ("train_problems", "test_problems", "lora", "shots"):
            specs.check_count(name, getattr(self, name), minimum=0)
        for name in ("learning_rate", "clip", "temperature"):
            if not 0 < getattr(self, name) < float("inf"):
                raise InputError(f"{name} must be positive and finite, got {getattr(self, name)}")
        specs.lookup({"float32": 0, "bfloat16": 0}, "precision", self.precision)
        specs.lookup(rewards.EXTRACTIONS, "extraction", self.extraction)
        if self.source.startswith(tasks.PREFIX) and not self.train_problems * self.test_problems:
            raise InputError(f"{self.source} makes its problems: train_problems and test_problems must be at least 1")
        if self.vllm and self.end:
            raise InputError(f"vLLM ends answers by the model's own tokens only, got vllm with end = {self.end!r}")
        if self.shots and not self.source.startswith(tasks.PREFIX):
            raise InputError(f"shots are for {tasks.PREFIX}TASK; {self.source!r} takes none")
        if (self.prompts * self.rollouts) % self.micro_batch:
            raise InputError(
                f"micro_batch must divide the {self.prompts * self.rollouts} rollouts of an update, "
                f"got {self.micro_batch}"
            )
        self.task_config()
        self.sampling()

    def task_config(self) -> dict[str, Any]:
        """Return `config` as a dictionary; `ValueError` if it is none."""
        try:
            found = json.loads(self.config)
        except ValueError as error:
            raise InputError(f"config must be JSON, got {self.config!r}: {error}") from None
        if not isinstance(found, dict):
            raise InputError(f"config must be a JSON object, got {self.config!r}")
        return found

    def sampling(self, seed: int = 0) -> Sampling:
        """Return how answers are drawn in evaluation."""
        return Sampling(self.samples, self.test_temperature, self.test_top_p, self.answer_length, seed=seed)

    def check(self, estimator: str) -> None:
        """Raise `ValueError` unless the estimator exists at N."""
        exact.coefficients(estimator, rollouts=self.rollouts)

    @property
    def tokens_per_step(self) -> int:
        """Most tokens that an update computes: every rollout with its prompt."""
        return self.prompts * self.rollouts * (self.prompt_length + self.answer_length)

    def accumulation(self, processes: int) -> int:
        """Return the micro-batches of an update on each of so many devices; `ValueError` if they do not fit."""
        together = self.micro_batch * processes
        if (self.prompts * self.rollouts) % together:
            raise InputError(
                f"{self.prompts} x {self.rollouts} rollouts do not split over {processes} devices in micro-batches of "
                f"{self.micro_batch}"
            )
        return self.prompts * self.rollouts // together


def memory(recipe: Recipe, devices: int = 1) -> dict[str, float]:
    """Return the GiB that each of `devices` needs for training, by part and in all; `ValueError` for unknown models.

    Weights, gradients and AdamW's two moments are float32 (16 bytes a parameter) and sharded over the devices, as FSDP
    or ZeRO-3 do; low-rank adapters leave the weights alone. Of activations, bfloat16 or float32, a layer keeps its
    input if it is checkpointed, else some 8 widths, 2 query, 4 MLP and 3 key widths a token, without the attention
    matrix (flash attention). TRL computes the answers' logits in small tiles, which are not counted. vLLM keeps a copy
    of the weights in bfloat16 and, at most, the keys and values of 64 rollouts at once. An estimate: what allocators
    and kernels add is not in it.
    """
    size = specs.lookup(MODELS, "size of model", recipe.model)
    share = size.parameters / devices
    adapters = recipe.lora * size.layers * (7 * size.width + 3 * size.mlp + 2 * size.kv_width + 2 * size.query_width)
    trained = 16 * adapters if recipe.lora else 12 * share
    tokens = recipe.micro_batch * (recipe.prompt_length + recipe.answer_length)
    per_layer = 8 * size.width + 2 * size.query_width + 4 * size.mlp + 3 * size.kv_width
    kept = size.layers * size.width + per_layer if recipe.checkpointing else size.layers * per_layer
    bytes_each = 2 if recipe.precision == "bfloat16" else 4
    parts = {
        "weights": 4 * share,
        "gradients and optimiser": trained,
        "activations": bytes_each * tokens * kept,
    }
    if recipe.vllm:
        cache = 2 * 2 * size.layers * size.kv_width * 64 * (recipe.prompt_length + recipe.answer_length)
        parts["vLLM"] = 2 * size.parameters + cache
    return {name: each / _GIB for name, each in {**parts, "total": sum(parts.values())}.items()}


SomeRecipe = TypeVar("SomeRecipe", bound=Recipe)


def shrunk(recipe: SomeRecipe) -> SomeRecipe:
    """Return the recipe with every size cut to what a CPU does in seconds, and nothing else changed: a dry run."""
    return replace(
        recipe,
        train_problems=8,
        test_problems=2,
        prompts=2,
        rollouts=4,
        steps=2,
        prompt_length=256,
        answer_length=8,
        micro_batch=4,
        save_every=1,
        samples=4,
        vllm=False,
    )
