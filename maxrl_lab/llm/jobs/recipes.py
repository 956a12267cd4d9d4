"""The recipes that have names: fine-tuning jobs of the paper's size, and one without a network or a cluster.

    maxrl-lab recipe smollm2_360m_gsm8k --describe      # what it takes, and the commands that run it

The numbers are those of arXiv:2602.02710v1, Table 5 (GSM8K) and Table 6 (POLARIS-53K); what the paper does not say, the
micro-batches, is chosen for the hardware named. Test answers are as many as its largest k: 1024 (Table 4) and 4096
(Fig. 5 and Table 7), sampled before and after training; `--samples 16` is a first look. JEEBench, which the paper also
shows, is left out: its answers of several letters and its rounded numbers are not judged by equality. The paper
averages the loss over the batch's tokens (App. F), which favours short answers: `token_mean`, allowed knowingly;
`--token-mean False` undoes it. `jobs.train` runs a recipe with TRL, `jobs.verl_job` with verl.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from maxrl_lab import specs
from maxrl_lab.errors import InputError
from maxrl_lab.llm.jobs.recipe import Recipe
from maxrl_lab.llm.problems import data, tasks
from maxrl_lab.settings import CountOrZero

_SUMS = Recipe(
    config='{"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 2}',  # two numbers of one or two digits
    train_problems=20_000,
    template="plain",
    chat=False,
    extraction="line",
    end="\n",
    steps=500,
    prompts=32,
    rollouts=32,
    learning_rate=1e-5,
    prompt_length=32,
    answer_length=6,
    save_every=100,
    test_problems=512,
    samples=64,
    micro_batch=128,
    precision="bfloat16",
    hardware="one GPU of 12 GB or more, or a CPU with patience",
)
_GSM8K = Recipe(
    model="HuggingFaceTB/SmolLM2-360M-Instruct",
    source="gsm8k",
    train_problems=0,
    steps=1500,  # 50 epochs of 7473 problems, and a little
    prompts=256,
    rollouts=128,
    learning_rate=1e-5,
    token_mean=True,
    prompt_length=512,
    answer_length=2048,
    tests=("gsm8k_platinum",),
    test_problems=0,
    samples=1024,
    micro_batch=16,
    precision="bfloat16",
    checkpointing=True,
    vllm=True,
    hardware="8 GPUs of 24 GB or more; one does, 8 times as slowly",
)
_POLARIS = replace(
    _GSM8K,
    model="Qwen/Qwen3-1.7B-Base",
    source="polaris",
    steps=1000,
    rollouts=16,
    learning_rate=1e-6,
    prompt_length=1024,
    answer_length=4096,
    tests=("aime2024", "aime2025", "beyond_aime", "math500", "minerva", "hmmt_feb_2025", "hmmt_nov_2025"),
    samples=4096,
    micro_batch=4,
    hardware="32 H200s, 4 nodes of 8, as in the paper; 8 GPUs of 80 GB hold it",
)
RECIPES: Mapping[str, Recipe] = {
    "smollm2_135m_offline": _SUMS,
    "smollm2_360m_gsm8k": _GSM8K,
    "qwen3_1p7b_polaris": _POLARIS,
    "qwen3_4b_polaris": replace(
        _POLARIS, model="Qwen/Qwen3-4B-Base", hardware="32 H200s, 4 nodes of 8, as in the paper"
    ),
}


@dataclass(frozen=True)
class Job(Recipe):
    """The run of the recipe."""

    estimator: str = "maxrl"
    """Estimator of the lab that computes the advantages: maxrl, grpo, pkpo:k=4, maxrl_order:order=N/2, ..."""
    seed: CountOrZero = 0
    """Seed of the order of the problems and of the answers that are sampled."""
    data: str = ""
    """A local file of training problems in the source's columns, or a folder of gsm8k-train.jsonl, ... for every
    collection, which is read instead of the hub."""

    def __post_init__(self) -> None:
        """Check also that the estimator exists at N, and that the source has problems for the seed."""
        super().__post_init__()
        self.check_estimator(self.estimator)
        if self.source.startswith(tasks.PREFIX) and self.seed > data.MAX_SEED:
            raise InputError(f"seed must be at most {data.MAX_SEED} for {self.source}, got {self.seed}")


def job_of(name: str) -> Job:
    """Return a recipe of `RECIPES` as a job with the default estimator and seed; `InputError` lists the recipes."""
    return Job(**vars(specs.lookup(RECIPES, "recipe", name)))
