"""What an objective is worth after the policy has moved away from the one that sampled, exactly, and what it keeps.

The rollouts are the old policy's; the estimator's mean advantages at the old pass rate weigh right and wrong answers.
The true objective has the likelihood ratio of the sampler that fills places in a uniform order; the others have what
masks make of it (`maxrl_lab.denoising.ratios`), averaged over all masks and answers.

Axes: B prompts, X answers, F cells of each (`maxrl_lab.denoising.forms`), N rollouts, J masks, L places.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from maxrl_lab import exact
from maxrl_lab.bernstein import binomial_mean
from maxrl_lab.denoising.batch import score
from maxrl_lab.denoising.forms import Forms
from maxrl_lab.denoising.moments import Denoiser
from maxrl_lab.denoising.ratios import bgpo_terms, expected_bgpo, expected_vrpo, vrpo
from maxrl_lab.denoising.surrogates import elbo, sample


def values_after(
    forms: Forms, old: Tensor, new: Tensor, right: Tensor, *, estimator: str, rollouts: int, samples: Sequence[int]
) -> dict[str, Tensor]:
    """Return the mean value of each objective on the old policy's rollouts, (B,) float64 each, and `spread`.

    old, new: (B, X, F) log-probabilities of the cells under both policies; right: (B, X) bool. The names are `true`,
    `bound` (the ratio of the exact bounds), `vrpo:samples=n` for every n, and `bgpo`; `spread` is the standard
    deviation of d over answers and masks.
    """
    law = elbo(forms.length)
    masks = forms.coefficients(law)[:, 0]
    log_old, log_new = (forms.path_log_probs(tokens).logsumexp(-1) for tokens in (old, new))
    chances = log_old.exp()
    advantages = _mean_advantages(estimator, rollouts, chances, right)
    differences = (new - old) @ masks.T
    made = {
        "true": advantages * (log_new - log_old).exp(),
        "bound": advantages * (differences @ law.weights).exp(),
        **{f"vrpo:samples={n}": expected_vrpo(advantages, differences, law.weights, n) for n in samples},
        "bgpo": expected_bgpo(advantages, differences, law.weights),
    }
    means = {name: (chances * value).sum(-1) for name, value in made.items()}
    first, second = ((chances * (differences**power @ law.weights)).sum(-1) for power in (1, 2))
    return {**means, "spread": (second - first**2).clamp(min=0).sqrt()}


def _mean_advantages(estimator: str, rollouts: int, chances: Tensor, right: Tensor) -> Tensor:
    """Return E a(J+1) for right answers and E b(J) for wrong ones, (B, X), at the prompts' pass rates."""
    success, failure = exact.coefficients(estimator, rollouts=rollouts)
    rates = (chances * right).sum(-1).clamp(0, 1)
    of_right, of_wrong = (binomial_mean(part, rates)[:, None] for part in (success[1:], failure[:-1]))
    return torch.where(right, of_right, of_wrong)


class Kept:
    """Rollouts that stay while the policy moves: their answers, advantages, masks, and the old policy's terms.

    advantages: (B, N); answers: (B, N, L). The masks are `samples` draws of the law of the bound for each answer.
    """

    def __init__(
        self,
        policy: Denoiser,
        prompts: Tensor,
        answers: Tensor,
        advantages: Tensor,
        samples: int,
        base: int,
        stream: torch.Generator,
    ) -> None:
        self.policy, self.prompts, self.answers, self.advantages = policy, prompts, answers, advantages
        self.base = base
        orders = torch.arange(answers.shape[-1]).expand(answers.shape)
        self.empty, coefficients = sample(elbo(answers.shape[-1]), orders, samples, stream)
        self.coefficients = coefficients * samples
        with torch.no_grad():
            self.old = self._terms(slice(None))

    def vrpo_loss(self) -> Tensor:
        """Return VRPO's loss (), with the graphs of all masks."""
        return -vrpo(self.advantages, self._terms(slice(None)) - self.old).mean()

    def bgpo_losses(self) -> list[Callable[[], Tensor]]:
        """Return BGPO's losses (), one for each mask, to be made and followed by `backward` one after another."""
        return [lambda index=index: self._bgpo_loss(index) for index in range(self.old.shape[-1])]  # type: ignore[misc]

    def _bgpo_loss(self, index: int) -> Tensor:
        part = slice(index, index + 1)
        terms = bgpo_terms(self.advantages, self._terms(part) - self.old[..., part])
        return -terms.mean() / self.old.shape[-1]

    def _terms(self, part: slice) -> Tensor:
        """Return the estimates (B, N, J) of the bound by some of the masks."""
        empty, coefficients = self.empty[:, :, part], self.coefficients[:, :, part]
        tokens = score(self.policy, self.prompts, self.answers, empty, self.base)
        return (tokens * coefficients.to(tokens)).sum(-1)


def kept_bytes(make: Callable[[], Tensor]) -> int:
    """Return how many bytes autograd keeps for the backward pass of `make()`: each tensor's memory counts once."""
    storages: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = make()
    del loss
    return sum(storages.values())
