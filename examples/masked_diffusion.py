"""How wrong is a bound, a mean field or two anchors in place of the likelihood of an answer that was denoised?

    python examples/masked_diffusion.py

A policy fills four empty places with digits, in a random order. Its answers have likelihoods, sums over 24 orders, that
systems for diffusion language models replace. On 256 answers everything is exact: nothing here is sampled.
"""

import torch

from maxrl_lab.denoising.lattice import Lattice
from maxrl_lab.denoising.likelihoods import elbo
from maxrl_lab.denoising.moments import Problem
from maxrl_lab.denoising.samplers import Uniform
from maxrl_lab.policies.masked import PairwiseDenoiser


def main() -> None:
    """Print the pass rate, the gap of the bound, and the bias and noise of MaxRL's estimate through four surrogates."""
    lattice, policy = Lattice(length=4, base=4), PairwiseDenoiser(4, 4, seed=1)
    prompt = torch.zeros(1, 1, dtype=torch.long)  # this policy reads none
    right = (lattice.answers[:, ::2] == lattice.answers[:, 1::2]).all(1)  # two pairs of equal digits
    table = policy.log_probs(prompt, lattice.states).detach()
    pass_rate = float(lattice.pass_rate(table, Uniform(), right[None]))
    log_probs = lattice.answer_log_probs(table, Uniform())
    gap = (log_probs.exp() * (log_probs - elbo(lattice, table))).sum()
    print(f"pass rate {pass_rate:.4f}; log-likelihood minus its bound, on average {float(gap):.3f} nats\n")
    problem = Problem(policy, prompt[0], right, lattice)
    exact = problem.moments("path").estimate("maxrl", 16).mean
    print(f"{'MaxRL, N = 16, through':<24}{'relative bias':>14}{'noise / signal':>16}")
    for surrogate in ("path", "elbo", "anchors:count=2", "mean_field"):
        mean, variance = problem.moments(surrogate).estimate("maxrl", 16)
        bias, noise = torch.linalg.norm(mean - exact) / exact.norm(), variance.sqrt() / exact.norm()
        print(f"{surrogate:<24}{float(bias):>14.3f}{float(noise):>16.2f}")


if __name__ == "__main__":
    main()
