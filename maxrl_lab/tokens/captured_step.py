"""The on-policy update of a transformer, captured: sampling, gradient and optimiser step as replays.

An update is the ordinary one (`maxrl_lab.training.step`) up to rounding: the same prompts, random numbers, advantages
and loss. Between the replays run what is not the policy's: the verifier, and the method's loss as a function of the
answers' log-probabilities, whose slopes are the gradient's input.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from maxrl_lab.captured import Captured, Outputs
from maxrl_lab.errors import InputError
from maxrl_lab.policies.transformer import Transformer
from maxrl_lab.randomness import generator
from maxrl_lab.tokens.batch import Verify, describe
from maxrl_lab.tokens.captured_gradients import CapturedGradient
from maxrl_lab.tokens.captured_writing import CapturedWriting
from maxrl_lab.tokens.sampling import Answers
from maxrl_lab.tokens.writing import Prompts, Writing
from maxrl_lab.training.groups import DivergedError, Group
from maxrl_lab.training.methods import Method
from maxrl_lab.training.step import run_losses


class CapturedStep:
    """Updates of one policy by one method with Adam or AdamW, as `fit.make_optimiser` makes them.

    The learning rates in the optimiser become tensors, which torch's schedules fill in place. clip: bound on the
    gradient norm, off if None. Raises `InputError` for other optimisers and methods that sample nothing.
    """

    def __init__(
        self,
        policy: Transformer,
        writing: Writing,
        method: Method,
        optimiser: torch.optim.Optimizer,
        clip: float | None = None,
    ) -> None:
        if method.drawn is None:
            raise InputError(f"a captured step needs a method that samples, got {method.kind}")
        if writing.top_p < 1:
            raise InputError(f"a policy learns from its whole distribution, expected top_p 1, got {writing.top_p}")
        self.policy, self.method, self.optimiser, self.clip = policy, method, optimiser, clip
        self.writer, self.gradient = CapturedWriting(policy, writing), CapturedGradient(policy, writing)
        self.gradient.zero()
        _make_capturable(optimiser)
        self.move = Captured(self._move, changes=lambda: [*self.gradient.totals, *_state(optimiser)], most=2)

    def update(self, prompts: Prompts, verify: Verify, seed: int, step: int) -> dict[str, float]:
        """Make one update on B prompts; return what its answers were like, as `batch.describe` does.

        `seed` and `step` address the random numbers. Raises `DivergedError` if the policy is NaN.
        """
        batch = _Rollouts(self.writer, prompts, verify, seed, step)
        run_losses(batch, [self.method]).sum().backward()
        by_log_prob = batch.log_probs.grad
        if by_log_prob is None:  # no rollout counts
            by_log_prob = torch.zeros_like(batch.log_probs)
        self.gradient.zero()
        self.gradient.accumulate(prompts, batch.written, by_log_prob, batch.entropies.grad)
        self.move()
        return batch.seen

    def _move(self) -> Outputs:
        """Clip the gradient and make the optimiser's step; this is what is captured."""
        if self.clip is not None:
            for group in self.optimiser.param_groups:
                nn.utils.clip_grad_norm_(group["params"], self.clip)
        self.optimiser.step()
        return ()


@dataclass
class _Rollouts:
    """B prompts as a `training.methods.Batch`, whose log-probabilities and entropies are leaves."""

    writer: CapturedWriting
    prompts: Prompts
    verify: Verify
    seed: int
    step: int

    def rollout(self, runs: Sequence[int], rollouts: int) -> Group:
        """Return N answers of each prompt, a group (1, B, N)."""
        stream = generator("answers", self.seed, self.step, rollouts, device=self.prompts.tokens.device)
        self.written: Answers = self.writer.write(self.prompts, rollouts, stream)
        if not bool(self.written.log_probs.isfinite().all()):
            raise DivergedError(runs[0], self.step)
        self.log_probs, self.entropies = (
            part.detach().requires_grad_() for part in (self.written.log_probs, self.written.entropies)
        )
        rewards = self.verify(self.written.tokens, self.written.lengths)
        self.seen = describe(self.written, rewards)
        return Group(rewards[None], self.log_probs[None], self.written.lengths[None], self.entropies[None])

    def greedy(self, runs: Sequence[int]) -> Tensor:  # noqa: ARG002
        """Return which prompts the greedy answer gets right, (1, B) bool."""
        written = self.writer.write(self.prompts, 1, None)
        return self.verify(written.tokens, written.lengths)[:, 0][None]

    def log_pass_rate(self, runs: Sequence[int]) -> Tensor:
        """Refuse: a captured step samples."""
        raise InputError(f"a captured step samples, got a request for the exact pass rates of runs {list(runs)}")


def _make_capturable(optimiser: torch.optim.Optimizer) -> None:
    """Put what changes between the steps of Adam on the parameters' device, learning rates too, and make its state.

    The state is made by a step whose gradient is 0, which is undone; torch makes it in the first step, too late.
    """
    if not isinstance(optimiser, torch.optim.Adam | torch.optim.AdamW):
        raise InputError(f"a captured step needs Adam or AdamW, got {type(optimiser).__name__}")
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    for group in optimiser.param_groups:
        device = group["params"][0].device
        group["lr"] = torch.as_tensor(group["lr"], dtype=torch.float32, device=device)
        group["capturable"] = device.type == "cuda"  # torch refuses it on a CPU
    if not optimiser.state:
        before = [parameter.detach().clone() for parameter in parameters]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a step which could be captured is not
            optimiser.step()
        with torch.no_grad():
            for parameter, old in zip(parameters, before, strict=True):
                parameter.copy_(old)  # weights decay without a gradient
        for state in optimiser.state.values():
            for value in state.values():
                value.zero_()
    for parameter in parameters:
        if parameter.device.type == "cuda":
            optimiser.state[parameter]["step"] = optimiser.state[parameter]["step"].to(parameter.device)


def _state(optimiser: torch.optim.Optimizer) -> list[Tensor]:
    """Return the tensors that a step of the optimiser changes, and the learning rates."""
    groups = optimiser.param_groups
    parameters = [parameter for group in groups for parameter in group["params"]]
    moments = [value for parameter in parameters for value in optimiser.state[parameter].values()]
    return [*parameters, *moments, *(group["lr"] for group in groups)]
