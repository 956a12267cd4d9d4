"""A language model on right-or-wrong problems: n samples each, and what they say, pass@k above all.

Sampling, rows and summary are three layers: an engine (`engines`) writes answers, `evaluate` turns them into one row a
problem and survives a kill, `summary` and `efficiency` compute what Fig. 5 and the tables of arXiv:2602.02710v1 show.
"""

import hashlib
import json
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from maxrl_lab import evaluate as metrics
from maxrl_lab import specs
from maxrl_lab.errors import InputError
from maxrl_lab.llm.models.engines import Engine, TransformersEngine, VllmEngine, engine
from maxrl_lab.llm.models.sampling import Completion, Prompt, Sampling
from maxrl_lab.rows import Row
from maxrl_lab.runs.checkpoint import Checkpoint
from maxrl_lab.runs.files import first_difference

__all__ = [
    "Completion",
    "Engine",
    "Prompt",
    "Sampling",
    "TransformersEngine",
    "VllmEngine",
    "efficiency",
    "engine",
    "evaluate",
    "summary",
]

Problem: TypeAlias = Mapping[str, Any]
"""Plain values by name: `prompt` (`sampling.Prompt`), and whatever the verifier needs."""
IsRight: TypeAlias = Callable[[str, Problem], bool]
"""Whether an answer's text solves a problem."""
Decoded: TypeAlias = Callable[[str, Problem], Hashable | None]
"""The final answer in a text, as it is counted in votes; None where there is none."""


def evaluate(
    engine: Engine,
    problems: Iterable[Problem],
    checkpoint: Checkpoint,
    is_right: IsRight | None = None,
    decoded: Decoded | None = None,
    *,
    key: str = "",
    save_every: int = 8,
) -> list[Row]:
    """Return a row a problem: how many of its samples are right, whether their majority is, and how long they are.

    Every `save_every` problems, or a batch of them if that is more, the rows so far are saved in `checkpoint`; a
    killed evaluation continues from there to the same rows. `key` says what else the rows depend on, as the
    caller knows it: the policy's name, say. `is_right` and `decoded` default to those of `maxrl_lab.llm.rewards`.
    Raises `ValueError` for a checkpoint of other sampling (but for its `at_once`), problems, engine or key.
    """
    problems = _checked(problems)
    if is_right is None or decoded is None:
        from maxrl_lab.llm.problems import rewards

        is_right, decoded = is_right or rewards.is_right, decoded or rewards.decoded
    asked = engine.sampling
    settings = _settings(engine, problems, key)
    rows = _saved_rows(checkpoint, settings)
    step = max(specs.check_count("save_every", save_every), asked.at_once // asked.samples)
    for start in range(len(rows), len(problems), step):
        part = problems[start : start + step]
        written = engine.complete([problem["prompt"] for problem in part], start)
        for place, (problem, completions) in enumerate(zip(part, written, strict=True), start):
            judged = _judged(completions, problem, is_right, decoded)
            rows.append({"problem": place, **judged, "temperature": asked.temperature, "top_p": asked.top_p})
        checkpoint.save({"settings": settings, "rows": rows})
    return rows


def _checked(problems: Iterable[Problem]) -> list[Problem]:
    found = list(problems)
    if not found:
        raise InputError("expected at least one problem, got none")
    for place, problem in enumerate(found):
        if "prompt" not in problem:
            raise InputError(f"problem {place} has no 'prompt'; it has: {', '.join(map(str, problem)) or 'nothing'}")
    return found


def _settings(engine: Engine, problems: list[Problem], key: str) -> dict[str, Any]:
    """What the rows depend on, as plain values."""
    try:
        content = json.dumps([dict(problem) for problem in problems], sort_keys=True)
    except (TypeError, ValueError) as error:
        raise InputError(f"problems must hold plain values, as JSON does, got another: {error}") from None
    drawn = {name: value for name, value in asdict(engine.sampling).items() if name != "at_once"}
    digest = hashlib.sha256(content.encode()).hexdigest()[:16]
    return {**drawn, "engine": type(engine).__name__, "problems": digest, "key": key}


def _saved_rows(checkpoint: Checkpoint, settings: Mapping[str, Any]) -> list[Row]:
    """The rows of an earlier session; `ValueError` names the first setting in which it differs."""
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


def _judged(completions: Sequence[Completion], problem: Problem, is_right: IsRight, decoded: Decoded) -> Row:
    """The columns of a problem's row that its completions decide; equal texts are verified once."""
    texts = [each.text for each in completions]
    right = {text: bool(is_right(text, problem)) for text in dict.fromkeys(texts)}
    answer = {text: decoded(text, problem) for text in right}
    voting = [text for text in texts if answer[text] is not None]
    return {
        "samples": len(texts),
        "correct": sum(right[text] for text in texts),
        "vote_right": right[_voted(voting, answer)] if voting else False,
        "distinct": len({answer[text] for text in voting}),
        "tokens_mean": sum(each.tokens for each in completions) / len(texts),
        "cut_off": sum(not each.ended for each in completions) / len(texts),
    }


def _voted(voting: list[str], answer: Mapping[str, Hashable]) -> str:
    """The first text that says what most say; of equally frequent answers, the one drawn first (App. J.1)."""
    votes = [answer[text] for text in voting]
    return voting[votes.index(metrics.majority_vote([votes])[0])]


def summary(rows: Sequence[Row], ks: Iterable[int], confidence: float = 0.95) -> list[Row]:
    """Return a row for each of `ks`: the unbiased mean pass@k with its bootstrap interval over problems.

    Each row repeats what does not depend on k: the share of right majority votes of all n samples, the mean length in
    tokens, and the share of samples that were cut off. Raises `ValueError` unless every problem has n >= k samples.
    """
    ks = list(ks)
    interval = metrics.bootstrap_interval(_pass_at_ks(rows, ks).numpy(), confidence, single_allowed=True)
    columns = {"majority": "vote_right", "tokens_mean": "tokens_mean", "cut_off": "cut_off"}
    means = {name: float(np.mean([row[column] for row in rows])) for name, column in columns.items()}
    head = {"problems": len(rows), "samples": rows[0]["samples"], **means}
    bounds = zip(ks, *(bound.tolist() for bound in interval), strict=True)
    return [{**head, "k": k, "pass_at_k": mean, "low": low, "high": high} for k, mean, low, high in bounds]


def efficiency(rows: Sequence[Row], baseline: Sequence[Row], ks: Sequence[int]) -> list[Row]:
    """Return a row for each of `ks`: how many times more samples the baseline needs for the same coverage (Fig. 5).

    Both are rows of `evaluate`, of the same problems; the ends of the curve are as in `evaluate.scaling_efficiency`.
    """
    ours, theirs = ([row["problem"] for row in each] for each in (rows, baseline))
    if ours != theirs:
        raise InputError(f"expected rows of the same problems, got {len(ours)} and {len(theirs)} that differ")
    found = metrics.scaling_efficiency(_pass_at_ks(rows, ks).mean(0), _pass_at_ks(baseline, ks).mean(0), ks)
    return [{"k": k, "efficiency": value} for k, value in zip(ks, found.tolist(), strict=True)]


def _pass_at_ks(rows: Sequence[Row], ks: Sequence[int]) -> Tensor:
    """The unbiased pass@k (B, len(ks)) of each problem."""
    if not rows or not ks:
        raise InputError(f"expected rows and at least one k, got {len(rows)} rows and {len(ks)} ks")
    samples = {row["samples"] for row in rows}
    if len(samples) > 1:
        raise InputError(f"expected the same number of samples in every row, got {sorted(samples)}")
    correct = torch.tensor([row["correct"] for row in rows])
    return torch.stack([metrics.pass_at_k(correct, rows[0]["samples"], k) for k in ks], -1)
