"""A recipe from end to end on a CPU, without a network, in a minute: everything is real but the sizes.

The model is `tiny`'s, with the recipe's architecture; the problems are reasoning-gym's, written to files in the columns
of the recipe's collections; all sizes are `recipe.shrunk`'s. The code is `run.run`'s, which is killed after its first
update and continues.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import torch

from maxrl_lab.errors import InputError
from maxrl_lab.llm import need
from maxrl_lab.llm.jobs import inputs, tiny
from maxrl_lab.llm.jobs.recipe import Recipe, shrunk
from maxrl_lab.llm.jobs.recipes import Job
from maxrl_lab.llm.jobs.run import POLICY, run
from maxrl_lab.llm.models import sampling
from maxrl_lab.llm.problems import data, rewards, tasks
from maxrl_lab.llm.problems.sources import SOURCES, after_hashes
from maxrl_lab.runs.files import write_atomically

_GROUPS = (4, 8, 16, 32, 64)
"""Numbers of rollouts in a group that are still quick."""
BYTES = 1024
"""Least `prompt_length` of a dry run: a byte is a token of the tiny model, so its prompts have more tokens."""


def check(name: str, job: Job) -> list[str]:
    """Return a line for everything that was checked of a recipe; raise `InputError` where a check fails."""
    with TemporaryDirectory() as scratch:
        ready = prepared(small(job), Path(scratch))
        return [*_inputs(ready), *_training(name, ready, Path(scratch) / "run")]


def small(job: Job) -> Job:
    """Return the job with small sizes, and the smallest group in which the estimator exists."""
    shrunk_job = shrunk(replace(job, estimator="maxrl"))
    for rollouts in _GROUPS:
        try:
            return replace(shrunk_job, rollouts=rollouts, micro_batch=rollouts, estimator=job.estimator)
        except InputError as error:
            refused = error
    raise InputError(f"a dry run has groups of up to {_GROUPS[-1]} rollouts: {refused}")


def prepared(job: Job, folder: Path) -> Job:
    """Return the job with a tiny model and local problems, both written to `folder`."""
    need("datasets").disable_progress_bars()
    need("transformers").utils.logging.disable_progress_bar()
    collections = {"train": (job.source,), "test": job.tests or (job.source,)}
    for split, sources in collections.items():
        for source in sources:
            if not source.startswith(tasks.PREFIX):
                write_problems(folder / "data" / f"{source}-{split}.jsonl", source, 8)
    (folder / "data").mkdir(parents=True, exist_ok=True)
    local = replace(job, data=str(folder / "data"), prompt_length=max(BYTES, job.prompt_length))
    answers = sorted({problem["answer"] for problem in inputs.training_set(local, job.seed, folder / "data")})
    forms = [as_extracted(answer, job.extraction) for answer in answers]
    tiny.save(folder / "model", job.model, forms, job.end)
    return replace(local, model=str(folder / "model"))


def write_problems(file: Path, source: str, count: int) -> None:
    """Write problems whose answers are 1 or 2 in the columns of a collection; GSM8K's answers with its steps."""
    known = SOURCES[source]
    config = {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 2}
    problems = data.reasoning_gym_problems("chain_sum", 1000, 0, config, "train")
    short = [problem for problem in problems if problem["answer"] in ("1", "2")][:count]
    steps = "Count.\n#### " if known.reference is after_hashes else ""
    rows = [{known.question: problem["question"], known.answer: steps + problem["answer"]} for problem in short]
    write_atomically(file, "".join(json.dumps(row) + "\n" for row in rows).encode())


def as_extracted(answer: str, extraction: str) -> str:
    """Return a text from which the extraction takes the answer."""
    forms = {"boxed": f"\\boxed{{{answer}}}", "tag": f"<answer>{answer}</answer>"}
    return forms.get(extraction, answer)


def _inputs(job: Job) -> list[str]:
    """Load the model and every collection, and score a right and a wrong answer to each problem."""
    folder = Path(job.data)
    sets = {f"{job.source} (training)": inputs.training_set(job, job.seed, folder)}
    sets |= inputs.held_out_sets(job, folder)
    for source, problems in sets.items():
        for problem in problems:
            right, wrong = (as_extracted(text, problem["extraction"]) for text in (problem["answer"], "-987654"))
            require(
                rewards.is_right(right, problem) and not rewards.is_right(wrong, problem),
                f"{source}: the reward must tell {right!r} from {wrong!r}",
            )
    tokenizer = inputs.load_policy(job, torch.device("cpu")).tokenizer
    longest = max(len(sampling.encode(tokenizer, problem["prompt"])) for problem in next(iter(sets.values())))
    counts = ", ".join(f"{len(problems)} of {source}" for source, problems in sets.items())
    return [
        f"problems: {counts}; prompts of up to {longest} bytes in the form {_form(job)}",
        f"rewards: right and wrong answers to all of them told apart ({job.extraction})",
    ]


def _form(recipe: Recipe) -> str:
    return ("chat" if recipe.chat else "plain text") + (f" with {recipe.shots} examples" if recipe.shots else "")


@dataclass
class _Watch:
    """The updates at which trainings have begun, and callbacks that note them."""

    begun: list[int] = field(default_factory=list)

    def callback(self, *, kill: bool) -> Any:
        """Return a callback of transformers that notes where training begins, and may kill it after one update."""
        begun = self.begun

        class Callback(need("transformers").TrainerCallback):  # type: ignore[misc]
            def on_train_begin(self, _: Any, state: Any, __: Any, **___: Any) -> None:
                begun.append(state.global_step)

            def on_save(self, _: Any, state: Any, __: Any, **___: Any) -> None:
                if kill and state.global_step == 1:
                    raise KeyboardInterrupt

        return Callback()


def _training(name: str, job: Job, folder: Path) -> list[str]:
    """Train, be killed, be refused with another estimator, continue, and end."""
    watch = _Watch()
    _interrupted(lambda: run(name, job, folder, "cpu", callbacks=[watch.callback(kill=True)]))
    require(
        (folder / "checkpoint/run/trainer/checkpoint-1/maxrl_lab.json").exists(), "a checkpoint after the first update"
    )
    refusal = _refused(lambda: run(name, _another_estimator(job), folder, "cpu"))
    tables = run(name, job, folder, "cpu", callbacks=[watch.callback(kill=False)])
    require(watch.begun == [0, 1], f"the second session must begin after update 1, began at {watch.begun}")
    if tables is None:
        raise InputError("dry run: expected tables")
    return [
        f"training: killed after update 1, refused with another estimator ({refusal}), continued, ended",
        *_ended(job, tables, folder / POLICY),
    ]


def _ended(job: Job, tables: dict[str, pd.DataFrame], policy: Path) -> list[str]:
    """Check the tables and the policy of a finished run."""
    updates, problems = tables["training"], tables["problems"]
    require(list(updates["step"]) == [1, 2], f"two updates, got {list(updates['step'])}")
    sources = job.tests or (job.source,)
    expected = {(when, source): 2 for when in ("before", "after") for source in sources}
    require(problems.groupby(["when", "source"]).size().to_dict() == expected, "two problems of each, before and after")
    start, end = (
        inputs.load_policy(replace(job, model=str(folder)), torch.device("cpu")).model.state_dict()
        for folder in (Path(job.model), policy)
    )
    learnt = bool((updates["gradient_norm"] > 0).any())
    moved = any(not torch.equal(start[name], weights) for name, weights in end.items() if name in start)
    require(moved == learnt or bool(job.lora), "the saved policy must differ from the first one if it has learnt")
    rates = ", ".join(f"{rate:.2f}" for rate in updates["pass_rate"])
    kind = need("transformers").AutoConfig.from_pretrained(job.model).model_type
    return [
        f"updates: 2 of {job.prompts} x {job.rollouts} rollouts by {job.estimator} on a random {kind}; "
        f"pass rates {rates}; " + ("weights moved" if learnt else "no group was mixed, so no weight moved"),
        f"evaluation: {len(problems)} rows of {job.samples} answers, before and after",
        f"policy: {', '.join(sorted(file.name for file in policy.glob('*.safetensors')))}, saved and loaded again",
    ]


def _another_estimator(job: Job) -> Job:
    return replace(job, estimator="rloo" if job.estimator != "rloo" else "maxrl")


def _interrupted(action: Callable[[], object]) -> None:
    try:
        action()
    except KeyboardInterrupt:
        return
    raise InputError("dry run: expected the first session to be killed after an update, but it ended")


def _refused(action: Callable[[], object]) -> str:
    try:
        action()
    except InputError as error:
        return str(error).partition("(")[2].partition(")")[0]
    raise InputError("dry run: expected another estimator to be refused, but it was trained")


def require(holds: bool, what: str) -> None:
    """Raise `InputError`, which says what was expected, unless it holds."""
    if not holds:
        raise InputError(f"dry run: expected {what}")
