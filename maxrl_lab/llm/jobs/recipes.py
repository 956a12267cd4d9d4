"""Fine-tuning jobs of the paper's size, and one that needs neither a network nor a cluster.

    maxrl-lab recipe smollm2_360m_gsm8k --describe      # what it takes, and the commands that run it

The numbers are those of arXiv:2602.02710v1, Table 5 (GSM8K) and Table 6 (POLARIS-53K); what it does not say, the
micro-batches and the number of test samples, is chosen for the hardware named. The paper averages the loss over the
batch's tokens (App. F), which favours short answers: `token_mean`, allowed knowingly; `--token_mean False` undoes it.
`experiments.llm.train` runs a recipe with TRL, `experiments.llm.verl_job` with verl.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

from experiments.llm.llm import PRESETS
from maxrl_lab import specs
from maxrl_lab.errors import InputError
from maxrl_lab.llm.jobs.recipe import Recipe
from maxrl_lab.llm.problems import data, tasks


def _offline() -> Recipe:
    """The recipe of the experiment `llm` at its full size."""
    full = PRESETS["full"]
    return Recipe(**{field.name: getattr(full, field.name) for field in fields(Recipe)})


_GSM8K = Recipe(
    model="HuggingFaceTB/SmolLM2-360M-Instruct",
    source="gsm8k",
    tests=("gsm8k_platinum",),
    prompts=256,
    rollouts=128,
    steps=1500,  # 50 epochs of 7473 problems, and a little
    learning_rate=1e-5,
    token_mean=True,
    prompt_length=512,
    answer_length=2048,
    micro_batch=16,
    precision="bfloat16",
    checkpointing=True,
    vllm=True,
    samples=128,
    hardware="8 GPUs of 24 GB or more; one does, 8 times as slowly",
)
_POLARIS = replace(
    _GSM8K,
    model="Qwen/Qwen3-1.7B-Base",
    source="polaris",
    tests=("aime2025", "beyond_aime", "math500", "minerva"),
    rollouts=16,
    steps=1000,
    learning_rate=1e-6,
    prompt_length=1024,
    answer_length=4096,
    micro_batch=4,
    samples=16,
    hardware="32 H200s, 4 nodes of 8, as in the paper; 8 GPUs of 80 GB hold it",
)
RECIPES: Mapping[str, Recipe] = {
    "smollm2_135m_offline": replace(_offline(), hardware="one GPU of 12 GB or more, or a CPU with patience"),
    "smollm2_360m_gsm8k": _GSM8K,
    "qwen3_1p7b_polaris": _POLARIS,
    "qwen3_4b_polaris": replace(
        _POLARIS, model="Qwen/Qwen3-4B-Base", hardware="32 H200s, 4 nodes of 8, as in the paper"
    ),
}


@dataclass(frozen=True)
class Settings(Recipe):
    """A recipe, and what one run of it adds."""

    estimator: str = "maxrl"
    """Any estimator of the lab: maxrl, grpo, pkpo:k=4, maxrl_order:order=N/2, ..."""
    seed: int = 0
    """Of the order of the problems and of the answers drawn."""
    data: str = ""
    """A local file of training problems in the source's columns, or a folder of gsm8k-train.jsonl, ... for every
    collection, instead of the hub."""

    def __post_init__(self) -> None:
        """Check also that the estimator exists at N."""
        super().__post_init__()
        self.check(self.estimator)
        seed = specs.check_count("seed", self.seed, minimum=0)
        if self.source.startswith(tasks.PREFIX) and seed > data.MAX_SEED:
            raise InputError(f"seed must be at most {data.MAX_SEED} for {self.source}, got {seed}")


def settings_of(name: str) -> Settings:
    """Return a recipe of `RECIPES` as settings of a run; `ValueError` lists the recipes."""
    recipe = specs.lookup(RECIPES, "recipe", name)
    return Settings(**{field.name: getattr(recipe, field.name) for field in fields(Recipe)})
