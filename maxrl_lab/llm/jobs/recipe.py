"""A fine-tuning job as data: which model, which problems, how many rollouts, and on what hardware.

`jobs.train` runs a recipe with TRL on whatever machines accelerate gives it, `jobs.verl_job` with verl; `jobs.recipes`
holds the recipes that have names.
"""

import json
from dataclasses import dataclass, replace
from typing import Annotated, Any, TypeVar

from maxrl_lab import exact
from maxrl_lab.errors import InputError
from maxrl_lab.llm.models.sampling import Sampling
from maxrl_lab.llm.problems import rewards, tasks
from maxrl_lab.settings import Choice, Count, CountOrZero, Interval, MaybeNames, Positive, Rate, Settings

EMBEDDED = "embedded"
"""The name of the model that `models.weights` prepares."""


@dataclass(frozen=True)
class Model(Settings):
    """The model."""

    model: str = EMBEDDED
    """Model that is trained: embedded (`make llm` prepares it), a folder, or a name on the Hugging Face hub."""
    lora: CountOrZero = 0
    """Rank of the low-rank adapters (peft) that are trained instead of the weights; 0 trains all weights."""


@dataclass(frozen=True)
class Problems(Settings):
    """The problems."""

    source: str = f"{tasks.PREFIX}chain_sum"
    """Source of the training problems: reasoning_gym/TASK, or a collection that `problems.sources` lists."""
    config: str = "{}"
    """Settings of the reasoning_gym task, as a JSON object."""
    train_problems: CountOrZero = 2000
    """Number of training problems; 0 takes all of a collection."""
    template: str = "boxed"
    """Form of the prompt: boxed, plain, or a text with {question} in it."""
    shots: CountOrZero = 0
    """Number of worked examples of a reasoning_gym task before each question, one on a line."""
    chat: bool = True
    """Whether the prompt is a user's turn in the model's chat format; if not, the model continues plain text."""
    extraction: Annotated[str, Choice(rewards.EXTRACTIONS)] = "boxed"
    """Where the answer stands in the text: boxed, line, tag or number."""
    end: str = ""
    """A token that ends an answer, besides the model's own end tokens."""


@dataclass(frozen=True)
class Training(Settings):
    """Training."""

    steps: Count = 500
    """Number of updates of the policy."""
    prompts: Count = 32
    """Number B of problems in each update."""
    rollouts: Count = 32
    """Number N of answers to each problem of an update."""
    learning_rate: Rate = 1e-5
    """Learning rate of AdamW, which is constant."""
    clip: Positive = 1.0
    """Largest norm that an update's gradient may have."""
    token_mean: bool = False
    """Whether the loss is averaged over the batch's tokens, as in the paper (App. F), which favours short answers;
    if not, it is summed over the tokens of each answer."""
    temperature: Positive = 1.0
    """Temperature at which the answers that the policy learns from are sampled."""
    prompt_length: Count = 512
    """Largest number of tokens in a prompt; `maxrl-lab recipe` leaves training problems with longer ones out."""
    answer_length: Count = 512
    """Largest number of tokens in an answer; a longer one is cut off, and wrong."""
    save_every: Count = 50
    """Number of updates between two checkpoints."""


@dataclass(frozen=True)
class Evaluation(Settings):
    """Evaluation."""

    tests: MaybeNames = ()
    """Collections that the policy is evaluated on; if none is named, the held-out split of the source."""
    test_problems: CountOrZero = 100
    """Number of problems of each collection that the policy is evaluated on; 0 takes all of them."""
    samples: Count = 16
    """Number n of answers to each problem of an evaluation."""
    test_temperature: Annotated[float, Interval(closed_low=True)] = 0.6
    """Temperature at which answers are sampled in an evaluation (App. E.2)."""
    test_top_p: Annotated[float, Interval(0, 1, closed_high=True)] = 0.95
    """Probability that the nucleus holds from which an evaluation samples; 1 samples from all tokens."""


@dataclass(frozen=True)
class Hardware(Settings):
    """Hardware."""

    micro_batch: Count = 32
    """Number of rollouts that a device differentiates together."""
    precision: Annotated[str, Choice(("float32", "bfloat16"))] = "float32"
    """Precision of the arithmetic: float32, or bfloat16 with weights in float32."""
    checkpointing: bool = False
    """Whether activations are computed twice, which saves memory."""
    vllm: bool = False
    """Whether vLLM samples the answers of the training, beside the trainer on its GPUs."""
    hardware: str = "a laptop, or one GPU"
    """Description of the hardware that the recipe is meant for."""


@dataclass(frozen=True)
class Recipe(Hardware, Evaluation, Training, Problems, Model):  # --help shows the last base first
    """One fine-tuning job. The defaults are a small one on the embedded model, without a network or a GPU."""

    def __post_init__(self) -> None:
        """Check, beside every bound, what concerns several fields; what depends on the model is checked later."""
        super().__post_init__()
        makes_problems = self.source.startswith(tasks.PREFIX)
        if makes_problems and not self.train_problems * self.test_problems:
            raise InputError(f"{self.source} makes its problems: train_problems and test_problems must be at least 1")
        if self.shots and not makes_problems:
            raise InputError(f"shots are for {tasks.PREFIX}TASK; {self.source!r} takes none")
        if self.vllm and self.end:
            raise InputError(f"vLLM ends answers by the model's own tokens only, got vllm with end = {self.end!r}")
        if (self.prompts * self.rollouts) % self.micro_batch:
            raise InputError(
                f"micro_batch must divide the {self.prompts * self.rollouts} rollouts of an update, "
                f"got {self.micro_batch}"
            )
        self.task_config()
        self.sampling()

    def task_config(self) -> dict[str, Any]:
        """Return `config` as a dictionary; raise `InputError` if it is none."""
        try:
            config = json.loads(self.config)
        except ValueError as error:
            raise InputError(f"config must be JSON, got {self.config!r}: {error}") from None
        if not isinstance(config, dict):
            raise InputError(f"config must be a JSON object, got {self.config!r}")
        return config

    def sampling(self, seed: int = 0) -> Sampling:
        """Return how an evaluation samples answers."""
        return Sampling(self.samples, self.test_temperature, self.test_top_p, self.answer_length, seed=seed)

    def check_estimator(self, estimator: str) -> None:
        """Raise `InputError` unless the estimator exists for groups of N = `rollouts`."""
        exact.coefficients(estimator, rollouts=self.rollouts)

    @property
    def tokens_per_step(self) -> int:
        """The largest number of tokens that an update computes: every rollout with its prompt."""
        return self.prompts * self.rollouts * (self.prompt_length + self.answer_length)

    def accumulation(self, processes: int) -> int:
        """Return the number of micro-batches of an update on each of `processes` devices.

        Raises `InputError` if the rollouts of an update do not split over the devices.
        """
        together = self.micro_batch * processes
        if (self.prompts * self.rollouts) % together:
            raise InputError(
                f"{self.prompts} x {self.rollouts} rollouts do not split over {processes} devices in micro-batches of "
                f"{self.micro_batch}"
            )
        return self.prompts * self.rollouts // together


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
