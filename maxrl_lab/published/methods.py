"""Methods of the literature whose advantages are a table: name, source, and the text form of the estimator.

Methods that are no table are not here: those that pool prompts (REINFORCE++, Lite-PPO), resample groups (DAPO, of which
`objectives.ResampledGrpo` is one reading), carry state between updates (SPO; BNPO stands here at a frozen state), or
change the surrogate instead of the advantage (GSPO, CISPO).
"""

from typing import NamedTuple


class Method(NamedTuple):
    """A method of the literature and the estimator that it is."""

    name: str
    source: str
    """arXiv number, author and year, or repository."""
    estimator: str
    """The text form; N in it stands for the number of rollouts."""
    limit: str | None = None
    """The objective it tends to as N grows, where that does not show in its coefficients (`audit.limit`)."""


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("REINFORCE", "Williams 1992", "reinforce"),
        Method("PSR", "2506.01347", "psr"),
        Method("NSR", "2506.01347", "nsr"),
        Method("W-REINFORCE", "2506.01347", "w_reinforce"),
        Method("rewards 1 and -1", "Williams 1992", "constant_baseline:value=0.5"),
        Method("Reinforce-Rej", "2504.11343", "reinforce_rej"),
        Method("Reinforce-Rej, rewards 1 and -1", "2504.11343", "reinforce_rej:two_sided=1"),
        Method("Dr. GRPO", "2503.20783", "mean_centred"),
        Method("RLOO", "Kool et al. 2019", "rloo"),
        Method("GRPO", "2402.03300", "grpo"),
        Method("GRPO, sample deviation", "verl", "grpo:ddof=1,epsilon=1e-6"),
        Method("GRPO, leave-one-out", "NVIDIA-NeMo/RL", "grpo_leave_one_out", limit="grpo_limit"),
        Method("F-GRPO", "2602.06717", "f_grpo"),
        Method("QAE", "2509.22611", "qae"),
        Method("MAPO", "2509.18849", "mapo"),
        Method("BNPO, exponents 1/2 and 0", "2506.02864", "power:s=0.5,t=0"),
        Method("RS-GRPO", "2509.24261", "rs_grpo:beta=2"),
        Method("Tsallis", "2604.25907", "tsallis:q=0.5"),
        Method("MaxRL, Algorithm 1", "2602.02710", "maxrl"),
        Method("MaxRL, no baseline", "2602.02710, Eq. 9", "maxrl_no_baseline"),
        Method("MaxRL, control variate", "2602.02710, Eq. 10", "maxrl_control_variate"),
        Method("MaxRL, leave-one-out", "this lab", "maxrl_leave_one_out"),
        Method("MaxRL, cross-fitted", "this lab", "maxrl_cross_fitted"),
        Method("MaxRL of order 4", "this lab", "maxrl_order:order=4"),
        Method("MaxRL of order 4, zero-sum", "this lab", "maxrl_centred:order=4"),
        Method("Maclaurin, order 4", "tajwarfahim/maxrl", "maclaurin:order=4"),
        Method("misc: maxrl", "tajwarfahim/maxrl", "power:s=1.5,t=0.5"),
        Method("PKPO, k = 4", "2505.15201", "pkpo:k=4"),
        Method("PKPO, k = 4, zero-sum", "2508.10751, rescaled", "pkpo_centred:k=4"),
        Method("Pass@k Training, k = 4", "2508.10751", "passk_training:k=4", limit="arcsine_pass_at_k:k=4"),
        Method("Pass@k Training, undivided", "2508.10751", "passk_training:k=4,std=0"),
    )
}
"""Name to method, from the expected reward over its standardised relatives to the likelihood and pass@k."""
