"""A language model on right-or-wrong problems: n samples of each, and what they say, pass@k above all.

Sampling, rows and summary are three layers: an engine (`engines`) writes answers, `evaluate` turns them into one row a
problem and survives a kill, `summary` computes what the tables of arXiv:2602.02710v1 show.
"""

import hashlib
import json
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict
from numbers import Real
from typing import Any, TypeAlias

import numpy as np
import torch

from maxrl_lab import evaluate as metrics
from maxrl_lab import intervals, specs
from maxrl_lab.errors import InputError
from maxrl_lab.llm.models.engines import Engine
from maxrl_lab.llm.models.sampling import Completion
from maxrl_lab.llm.problems import rewards
from maxrl_lab.probe import name_of
from maxrl_lab.rows import Row
from maxrl_lab.runs.checkpoint import Checkpoint
from maxrl_lab.runs.files import first_difference

Problem: TypeAlias = Mapping[str, Any]
"""Plain values by name: `prompt` (`sampling.Prompt`), and whatever the verifier needs."""
IsRight: TypeAlias = Callable[[str, Problem], bool]
"""Whether an answer's text solves a problem."""
Decode: TypeAlias = Callable[[str, Problem], Hashable | None]
"""The final answer in a text, as votes count it; None if the text has no answer."""


def evaluate(
    engine: Engine,
    problems: Iterable[Problem],
    checkpoint: Checkpoint,
    is_right: IsRight = rewards.is_right,
    decode: Decode = rewards.decoded,
    *,
    key: str = "",
    save_every: int = 8,
) -> list[Row]:
    """Return a row a problem: how many of its samples are right, whether their majority is, and how long they are.

    Every `save_every` problems, or a batch of them if that is more, the rows so far are saved in `checkpoint`; a
    killed evaluation continues from there to the same rows. `key` names what else the rows depend on and only the
    caller knows, the policy for example. Raises `InputError` for a checkpoint with other problems, another engine,
    another key or other settings of the sampling; `at_once` may differ.
    """
    listed = _checked(problems)
    settings = _settings(engine, listed, key)
    rows = _saved_rows(checkpoint, settings)
    step = max(specs.check_count("save_every", save_every), engine.sampling.at_once // engine.sampling.samples)
    for start in range(len(rows), len(listed), step):
        part = listed[start : start + step]
        written = engine.complete([problem["prompt"] for problem in part], start)
        for index, (problem, completions) in enumerate(zip(part, written, strict=True), start):
            rows.append({"problem": index, **_judged(completions, problem, is_right, decode)})
        checkpoint.save({"settings": settings, "rows": rows})
    return rows


def _checked(problems: Iterable[Problem]) -> list[Problem]:
    """Return the problems as a list; raise `InputError` if it is empty, or a problem has no prompt."""
    listed = list(problems)
    if not listed:
        raise InputError("expected at least one problem, got none")
    for index, problem in enumerate(listed):
        if "prompt" not in problem:
            raise InputError(f"problem {index} has no 'prompt'; it has: {', '.join(map(str, problem)) or 'nothing'}")
    return listed


def _settings(engine: Engine, problems: list[Problem], key: str) -> dict[str, Any]:
    """Return what the rows depend on, as plain values."""
    try:
        content = json.dumps([dict(problem) for problem in problems], sort_keys=True)
    except (TypeError, ValueError) as error:
        raise InputError(f"problems must hold plain values, as JSON does, got another: {error}") from None
    sampling = {name: value for name, value in asdict(engine.sampling).items() if name != "at_once"}
    digest = hashlib.sha256(content.encode()).hexdigest()[:16]
    return {**sampling, "engine": type(engine).__name__, "problems": digest, "key": key}


def _saved_rows(checkpoint: Checkpoint, settings: Mapping[str, Any]) -> list[Row]:
    """Return the rows of an earlier session; raise `InputError`, which names the first setting that differs."""
    state = checkpoint.load()
    if state is None:
        return []
    if name := first_difference(state["settings"], settings):
        there, now = state["settings"].get(name, "absent"), settings[name]
        raise InputError(
            f"{checkpoint.path} holds an evaluation with other settings ({name} = {there!r} there, {now!r} now); "
            "choose another place, or start again with --force"
        )
    rows: list[Row] = state["rows"]
    return rows


def _judged(completions: Sequence[Completion], problem: Problem, is_right: IsRight, decode: Decode) -> Row:
    """Return the columns of a problem's row that its completions decide; equal texts are verified once."""
    texts = [completion.text for completion in completions]
    right = {text: _verdict(is_right, text, problem) for text in dict.fromkeys(texts)}
    answers = {text: decode(text, problem) for text in right}
    (vote_right,) = metrics.majority_right([[answers[text] for text in texts]], [[right[text] for text in texts]])
    return {
        "correct": sum(right[text] for text in texts),
        "vote_right": vote_right,
        "distinct": len(set(answers.values()) - {None}),
        "tokens_mean": sum(completion.tokens for completion in completions) / len(texts),
        "cut_off": sum(not completion.ended for completion in completions) / len(texts),
    }


def _verdict(is_right: IsRight, text: str, problem: Problem) -> bool:
    """Return the verdict on an answer; raise `InputError` for a score between wrong and right, and for a text."""
    verdict: object = is_right(text, problem)
    if not isinstance(verdict, Real | np.bool_) or verdict not in (0, 1):
        raise InputError(f"{name_of(is_right)} must find an answer right or wrong, True or False, got {verdict!r}")
    return bool(verdict)


def summary(rows: Sequence[Row], samples: int, ks: Iterable[int], confidence: float = 0.95) -> list[Row]:
    """Return a row for each of `ks`: the unbiased mean pass@k with its bootstrap interval over problems.

    `rows` are those of `evaluate`, with `samples` answers to each problem. Each row of the summary repeats what does
    not depend on k: the share of right majority votes of all answers, their mean length in tokens, and the share of
    them that was cut off. One problem has no interval. Raises `InputError` unless every k is at most `samples`.
    """
    listed = list(ks)
    if not rows or not listed:
        raise InputError(f"expected rows and at least one k, got {len(rows)} rows and {len(listed)} ks")
    correct = torch.tensor([row["correct"] for row in rows])
    curves = torch.stack([metrics.pass_at_k(correct, samples, k) for k in listed], -1).numpy()
    interval = intervals.bootstrap_interval(curves, confidence, single_allowed=True)
    columns = {"majority": "vote_right", "tokens_mean": "tokens_mean", "cut_off": "cut_off"}
    means = {name: float(np.mean([row[column] for row in rows])) for name, column in columns.items()}
    bounds = zip(listed, *(bound.tolist() for bound in interval), strict=True)
    return [
        {"problems": len(rows), **means, "k": k, "pass_at_k": mean, "low": low, "high": high}
        for k, mean, low, high in bounds
    ]
