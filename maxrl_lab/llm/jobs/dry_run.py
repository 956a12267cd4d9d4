"""A recipe from end to end on a CPU, without a network, in a minute: everything is real but the sizes.

The model is `tiny`'s, of the recipe's architecture; the problems are reasoning-gym's, written to files in the columns
of the recipe's collections; all sizes are `recipe.shrunk`'s. The code is `train.run`'s, which is killed after its first
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
from maxrl_lab.llm.jobs import tiny, train, training
from maxrl_lab.llm.jobs.recipe import Recipe, shrunk
from maxrl_lab.llm.jobs.recipes import Settings
from maxrl_lab.llm.models import sampling
from maxrl_lab.llm.problems import data, rewards, tasks
from maxrl_lab.llm.problems.sources import SOURCES, after_hashes
from maxrl_lab.runs.files import write_atomically

_GROUPS = (4, 8, 16, 32, 64)
"""Rollouts in a group that are still quick."""
BYTES = 1024
"""A byte is a token of the tiny model: its prompts are longer than the real model's."""


def check(name: str, settings: Settings) -> list[str]:
    """Return a line for everything that was checked of a recipe; `ValueError` for the first that fails."""
    settings = small(settings)
    with TemporaryDirectory() as place:
        settings = prepared(settings, Path(place))
        return [*_inputs(settings), *_training(name, settings, Path(place) / "run")]


def small(settings: Settings) -> Settings:
    """Return the settings with small sizes, and the smallest group in which the estimator exists."""
    tried = shrunk(replace(settings, estimator="maxrl"))
    for rollouts in _GROUPS:
        try:
            return replace(tried, rollouts=rollouts, micro_batch=rollouts, estimator=settings.estimator)
        except ValueError as error:
            refused = error
    raise InputError(f"a dry run has groups of up to {_GROUPS[-1]} rollouts: {refused}")


def prepared(settings: Settings, folder: Path) -> Settings:
    """Return the settings with a tiny model and local problems, both written to `folder`."""
    need("datasets").disable_progress_bars()
    need("transformers").utils.logging.disable_progress_bar()
    collections = {"train": (settings.source,), "test": settings.tests or (settings.source,)}
    for split, sources in collections.items():
        for source in sources:
            if not source.startswith(tasks.PREFIX):
                write_problems(folder / "data" / f"{source}-{split}.jsonl", source, 8)
    (folder / "data").mkdir(parents=True, exist_ok=True)
    local = replace(settings, data=str(folder / "data"), prompt_length=max(BYTES, settings.prompt_length))
    answers = sorted({each["answer"] for each in training.training_set(local, settings.seed, folder / "data")})
    forms = [as_extracted(answer, settings.extraction) for answer in answers]
    tiny.save(folder / "model", settings.model, forms, settings.end)
    return replace(local, model=str(folder / "model"))


def write_problems(file: Path, source: str, count: int) -> None:
    """Write problems whose answers are 1 or 2 in the columns of a collection; GSM8K's answers with its steps."""
    known = SOURCES[source]
    config = {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 2}
    problems = data.reasoning_gym_problems("chain_sum", 1000, 0, config, "train")
    chosen = [each for each in problems if each["answer"] in ("1", "2")][:count]
    steps = "Count.\n#### " if known.reference is after_hashes else ""
    rows = [{known.question: each["question"], known.answer: steps + each["answer"]} for each in chosen]
    write_atomically(file, "".join(json.dumps(row) + "\n" for row in rows).encode())


def as_extracted(answer: str, extraction: str) -> str:
    """Return a text from which the extraction takes the answer."""
    forms = {"boxed": f"\\boxed{{{answer}}}", "tag": f"<answer>{answer}</answer>"}
    return forms.get(extraction, answer)


def _inputs(settings: Settings) -> list[str]:
    """Load the model and every collection, and score a right and a wrong answer to each problem."""
    folder = Path(settings.data)
    sets = {f"{settings.source} (training)": training.training_set(settings, settings.seed, folder)}
    sets |= training.held_out_sets(settings, folder)
    for source, problems in sets.items():
        for problem in problems:
            right, wrong = (as_extracted(text, problem["extraction"]) for text in (problem["answer"], "-987654"))
            require(
                rewards.is_right(right, problem) and not rewards.is_right(wrong, problem),
                f"{source}: the reward must tell {right!r} from {wrong!r}",
            )
    tokenizer = training.load_policy(settings, torch.device("cpu")).tokenizer
    longest = max(len(sampling.encode(tokenizer, each["prompt"])) for each in next(iter(sets.values())))
    counts = ", ".join(f"{len(problems)} of {source}" for source, problems in sets.items())
    return [
        f"problems: {counts}; prompts of up to {longest} bytes in the form {_form(settings)}",
        f"rewards: right and wrong answers to all of them told apart ({settings.extraction})",
    ]


def _form(recipe: Recipe) -> str:
    return ("chat" if recipe.chat else "plain text") + (f" with {recipe.shots} examples" if recipe.shots else "")


@dataclass
class _Watch:
    """Where trainings began, and whether the next one is killed after its first update."""

    begun: list[int] = field(default_factory=list)

    def callback(self, *, kill: bool) -> Any:
        """Return transformers' callback that writes down the step at which training begins."""
        begun = self.begun

        class Callback(need("transformers").TrainerCallback):  # type: ignore[misc]
            def on_train_begin(self, _: Any, state: Any, __: Any, **___: Any) -> None:
                begun.append(state.global_step)

            def on_save(self, _: Any, state: Any, __: Any, **___: Any) -> None:
                if kill and state.global_step == 1:
                    raise KeyboardInterrupt

        return Callback()


def _training(name: str, settings: Settings, folder: Path) -> list[str]:
    """Train, be killed, be refused with another estimator, continue, and end."""
    watch = _Watch()
    _interrupted(lambda: train.run(name, settings, folder, "cpu", callbacks=[watch.callback(kill=True)]))
    require((folder / "checkpoint/trainer/checkpoint-1/maxrl_lab.json").exists(), "a checkpoint after the first update")
    refusal = _refused(lambda: train.run(name, _another_estimator(settings), folder, "cpu"))
    rows = train.run(name, settings, folder, "cpu", callbacks=[watch.callback(kill=False)])
    require(watch.begun == [0, 1], f"the second session must begin after update 1, began at {watch.begun}")
    require(rows is not None, "rows")
    return [
        f"training: killed after update 1, refused with another estimator ({refusal}), continued, ended",
        *_ended(settings, rows, folder / train.POLICY),
    ]


def _ended(settings: Settings, rows: pd.DataFrame, policy: Path) -> list[str]:
    updates, problems = rows[rows["view"] == "training"], rows[rows["view"] == "problem"]
    require(list(updates["step"]) == [1, 2], f"two updates, got {list(updates['step'])}")
    sources = settings.tests or (settings.source,)
    expected = {(when, source): 2 for when in ("before", "after") for source in sources}
    require(problems.groupby(["when", "source"]).size().to_dict() == expected, "two problems of each, before and after")
    start, end = (
        training.load_policy(replace(settings, model=str(folder)), torch.device("cpu")).model.state_dict()
        for folder in (Path(settings.model), policy)
    )
    learnt = bool((updates["gradient_norm"] > 0).any())
    moved = any(not torch.equal(start[name], weights) for name, weights in end.items() if name in start)
    require(moved == learnt or bool(settings.lora), "the saved policy must differ from the first one if it has learnt")
    rates = ", ".join(f"{rate:.2f}" for rate in updates["pass_rate"])
    kind = need("transformers").AutoConfig.from_pretrained(settings.model).model_type
    return [
        f"updates: 2 of {settings.prompts} x {settings.rollouts} rollouts by {settings.estimator} on a random {kind}; "
        f"pass rates {rates}; " + ("weights moved" if learnt else "no group was mixed, so no weight moved"),
        f"evaluation: {len(problems)} rows of {settings.samples} answers, before and after",
        f"policy: {', '.join(sorted(each.name for each in policy.glob('*.safetensors')))}, saved and loaded again",
    ]


def _another_estimator(settings: Settings) -> Settings:
    return replace(settings, estimator="rloo" if settings.estimator != "rloo" else "maxrl")


def _interrupted(action: Callable[[], object]) -> None:
    try:
        action()
    except KeyboardInterrupt:
        return
    raise InputError("dry run: expected the first session to be killed after an update, but it ended")


def _refused(action: Callable[[], object]) -> str:
    try:
        action()
    except ValueError as error:
        return str(error).partition("(")[2].partition(")")[0]
    raise InputError("dry run: expected another estimator to be refused, but it was trained")


def require(holds: bool, what: str) -> None:
    """Raise `ValueError` unless it holds."""
    if not holds:
        raise InputError(f"dry run: expected {what}")
