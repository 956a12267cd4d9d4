"""Exercises whose answer is differentiated: the loss, token by token, and a policy's score, answer by answer."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from course.checks.numbers import Function, Lookup
from course.parameters import Parameters
from course.wrong import WrongAnswerError
from maxrl_lab import estimators

_RELATIVE, _ABSOLUTE = 1e-9, 1e-12


def loss(answer: Lookup, asked: Parameters) -> None:  # noqa: ARG001
    """4.1: the surrogate of Algorithm 1."""
    maxrl_loss(answer("loss"))


def maxrl_loss(function: Function) -> None:
    """Raise `WrongAnswerError` unless d loss / d log-probability of every token is -A_i / (B N), and 0 on padding."""
    for rewards, lengths in _batches():
        tasks, rollouts, tokens = *rewards.shape, int(lengths.max())
        log_probs = torch.linspace(-3, -0.1, tasks * rollouts * tokens, dtype=torch.float64)
        log_probs = log_probs.reshape(tasks, rollouts, tokens)
        mask = torch.arange(tokens) < lengths[..., None]
        parts = function.gradients(log_probs, mask, rewards)  # type: ignore[attr-defined]
        if len(parts) != 1 or np.size(parts[0][0]) != 1:
            raise WrongAnswerError(f"a loss is one number, you return {[np.shape(values) for values, _ in parts]}")
        slope = torch.as_tensor(parts[0][1], dtype=torch.float64).reshape(log_probs.shape)
        advantages = estimators.make("maxrl")(rewards)
        wanted = -(advantages / (tasks * rollouts))[..., None] * mask
        if not torch.allclose(slope, wanted, rtol=_RELATIVE, atol=_ABSOLUTE):
            raise WrongAnswerError(_loss_text(slope, wanted, mask, rewards, lengths))


def _loss_text(slope: Tensor, wanted: Tensor, mask: Tensor, rewards: Tensor, lengths: Tensor) -> str:
    task, rollout, token = (
        int(index) for index in (~torch.isclose(slope, wanted, rtol=_RELATIVE, atol=_ABSOLUTE)).nonzero()[0]
    )
    text = (
        f"task {task}, rewards {rewards[task].int().tolist()}, lengths {lengths[task].tolist()}: token {token} of "
        f"rollout {rollout} is weighted {float(slope[task, rollout, token]):.6g}, asked is "
        f"{float(wanted[task, rollout, token]):.6g}"
    )
    if not bool(slope.isfinite().all()):
        return f"the gradient is not finite: {text}"
    if not bool(slope.any()):
        return f"the loss does not depend on log_probs: {text}"
    if bool((slope[~mask] != 0).any()):
        return f"padding is weighted: {text}"
    live = mask & (wanted != 0)
    ratio = (slope / wanted)[live]
    per_answer = (1.0 / lengths[..., None].double().expand_as(slope))[live]
    for name, guess in (("one constant", torch.ones_like(ratio)), ("1 / length of its answer", per_answer)):
        factor = ratio / guess
        if bool(live.any()) and torch.allclose(factor, factor[:1].expand_as(factor), rtol=1e-6):
            sign = "; the loss ASCENDS: its gradient is minus the estimate" if float(factor[0]) < 0 else ""
            return f"every token's weight is off by {name} times {float(factor[0]):.6g}{sign}: {text}"
    return text


def _batches() -> Iterator[tuple[Tensor, Tensor]]:
    """Yield rewards (B, N) and answer lengths (B, N), smallest first."""
    groups = (
        ([[1, 0]], [[1, 1]]),
        ([[1, 0]], [[1, 3]]),
        ([[1, 0], [1, 1]], [[2, 2], [2, 2]]),
        ([[1, 0, 0, 0], [1, 1, 1, 0]], [[1, 2, 3, 4], [4, 1, 2, 2]]),
        ([[0, 0, 0, 0], [1, 1, 0, 0]], [[1, 2, 3, 4], [4, 1, 2, 2]]),
    )
    for rewards, lengths in groups:
        yield torch.tensor(rewards, dtype=torch.float64), torch.tensor(lengths)


def policy(answer: Lookup, asked: Parameters) -> None:  # noqa: ARG001
    """5.3: the probabilities that are sampled from, and log-probabilities whose gradient is their score."""
    function = answer("policy")
    for logits, temperature in (([0.0, 1.0], 1.0), ([0.5, -1.0, 2.0], 0.5), ([3.0, 0.0, -2.0, 1.0], 2.0)):
        _check_policy(function, torch.tensor(logits, dtype=torch.float64), temperature)


def _check_policy(function: Function, logits: Tensor, temperature: float) -> None:
    """Raise `WrongAnswerError` unless the scores have mean 0 and belong to the tempered softmax."""
    at = f"at logits {logits.tolist()}, temperature {temperature:g}"
    parts = function.gradients(logits, temperature)  # type: ignore[attr-defined]
    if len(parts) != 2 or any(np.shape(values) != tuple(logits.shape) for values, _ in parts):
        raise WrongAnswerError(f"{at}: expected probabilities and log-probabilities, one each for every answer")
    (pi, _), (log_probs, scores) = ([torch.as_tensor(item, dtype=torch.float64) for item in part] for part in parts)
    wanted = (logits / temperature).softmax(-1)
    if not torch.allclose(pi, wanted, rtol=1e-6):
        raise WrongAnswerError(
            f"{at}: you sample from {_short(pi)}, asked is {_short(wanted)}{_sampling_mistake(pi, logits, temperature)}"
        )
    if not bool(scores.any()):
        raise WrongAnswerError(f"{at}: the log-probabilities have no gradient with respect to the logits (detached?)")
    mean = pi @ scores
    if not torch.allclose(mean, torch.zeros_like(mean), atol=1e-6):
        raise WrongAnswerError(
            f"{at}: the mean score is {_short(mean)}, not 0: answers are sampled from one policy and scored under "
            f"another{_scoring_mistake(log_probs, logits, temperature)}"
        )
    exact = (torch.eye(len(logits), dtype=torch.float64) - wanted) / temperature
    if not torch.allclose(scores, exact, rtol=1e-5, atol=1e-8):
        raise WrongAnswerError(
            f"{at}: the score of the first answer is {_short(scores[0])}, right is {_short(exact[0])}"
        )
    if not torch.allclose(log_probs, wanted.log(), rtol=1e-6):
        raise WrongAnswerError(f"{at}: log-probabilities {_short(log_probs)}, right is {_short(wanted.log())}")


def _sampling_mistake(pi: Tensor, logits: Tensor, temperature: float) -> str:
    guesses = {
        "the temperature multiplies the logits; it divides them": (logits * temperature).softmax(-1),
        "the temperature is ignored": logits.softmax(-1),
        "powers of probabilities have to be normalised": logits.softmax(-1) ** (1 / temperature),
        "the temperature divides probabilities, not logits": logits.softmax(-1) / temperature,
    }
    return next((f" ({name})" for name, guess in guesses.items() if torch.allclose(pi, guess, rtol=1e-5)), "")


def _scoring_mistake(log_probs: Tensor, logits: Tensor, temperature: float) -> str:
    if torch.allclose(log_probs, logits.log_softmax(-1), rtol=1e-5):
        return " (scored with the raw logits, without the temperature)"
    if torch.allclose(log_probs, logits / temperature, rtol=1e-5):
        return " (logits are scored, without the softmax's normalisation)"
    return ""


def _short(values: Tensor) -> str:
    return "[" + ", ".join(f"{value:.4g}" for value in values.tolist()) + "]"
