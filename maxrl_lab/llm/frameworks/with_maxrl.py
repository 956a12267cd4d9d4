"""The four frameworks that have MaxRL: what their source says an advantage is, in the lab's own words."""

from maxrl_lab.llm.frameworks import formulas, official
from maxrl_lab.llm.frameworks.formulas import by_mean_size, by_prompt, by_size, over_batch
from maxrl_lab.llm.frameworks.reading import ONLY_CENTRED, WHITENED, Method, Reading

SKYRL = Reading(
    "SkyRL",
    "NovaSky-AI/SkyRL",
    "skyrl/backends/skyrl_train/utils/ppo_utils.py",
    "skyrl 0.4.0",
    "2026-10",
    (
        Method("grpo (default)", by_prompt(formulas.standardised(1, 1e-6), formulas.raw)),
        Method("grpo, grpo_norm_by_std=false", by_prompt(formulas.centred, formulas.raw)),
        Method("rloo", by_prompt(formulas.leave_one_out, formulas.nothing)),
        Method("maxrl", by_prompt(formulas.over_mean(1e-6), formulas.raw)),
        Method("reinforce++", over_batch(by_prompt(formulas.raw), 1, 1e-8), WHITENED),
    ),
    package="skyrl==0.4.0",
)
PRIME_RL = Reading(
    "prime-rl",
    "PrimeIntellect-ai/prime-rl",
    "src/prime_rl/orchestrator/algo/",
    "559b44772e",
    "2026-08-21",
    (
        Method("grpo (default)", by_prompt(formulas.centred), ONLY_CENTRED),
        Method(
            "max_rl",
            by_prompt(formulas.over_mean_if_positive),
            "Its documentation says order `group_size`, which is 1 by default: then nothing is learned.",
        ),
    ),
    compared=True,
)
RLHF_BOOK = Reading(
    "rlhf-book",
    "natolambert/rlhf-book",
    "code/policy_gradients/utils.py",
    "a66b0bf110",
    "2026-08-21",
    (
        Method(
            "grpo, gspo, cispo, sapo, dapo",
            by_prompt(formulas.standardised(1, 1e-8)),
            "All losses of the book average every answer's tokens first: see `maxrl-lab run length_bias`.",
        ),
        Method("drgrpo", by_prompt(formulas.centred)),
        Method("rloo", by_prompt(formulas.leave_one_out, formulas.refused)),
        Method("maxrl", by_prompt(formulas.over_mean_if_positive)),
    ),
    compared=True,
)
_TWO = "truncate_order=2"
OFFICIAL = Reading(
    "MaxRL, official",
    "tajwarfahim/maxrl",
    "verl/trainer/ppo/core_algos.py",
    "c0698ebb43",
    "2026-05-14",
    (
        Method(
            "maxrl",
            by_prompt(formulas.over_mean(1e-6), formulas.divided(1e-6)),
            "The mean of a group of one is taken as 0, and its reward divided by the guard.",
        ),
        Method("misc: grpo (default type)", by_mean_size(official.misc(formulas.standardised(0, 1e-6)))),
        Method("misc: maxrl", by_mean_size(official.misc(official.over_deviation_and_mean))),
        Method("misc: reinforce_with_p_normalization", by_mean_size(official.misc(formulas.over_mean(1e-6)))),
        Method("misc: conditional_expectation", by_mean_size(official.misc(official.conditional_expectation))),
        Method("vr_cond", by_mean_size(formulas.from_counts(official.vr_cond))),
        Method(f"maclaurin, {_TWO}", by_mean_size(official.maclaurin(2)), "The default of truncate_order is 16."),
        Method(f"maclaurin_baseline, {_TWO}", by_mean_size(official.maclaurin_baseline(2))),
        Method(f"cross_fitted_maclaurin, {_TWO}", by_mean_size(official.cross_fitted_maclaurin(2))),
        Method(f"oversample_subset_vr, {_TWO}", by_mean_size(official.oversample_subset(2))),
        Method("pkpo, pass_k=2", by_mean_size(official.pkpo(2)), "The default of pass_k is 1, which is RLOO."),
        Method(
            "clipped_pnorm",
            official.clipped_pnorm,
            "The floor of 1/8 under its mean acts from N = 9 on. It divides by the size of the batch's first group.",
        ),
        Method(
            "one_sided_grpo, as its trainer calls it",
            by_prompt(formulas.standardised(1, 1e-6), formulas.raw),
            "The trainer hands this name to grpo's function; the one of that name is never called.",
        ),
        Method(
            "one_sided_grpo, its function",
            formulas.by_equal_size(by_size(formulas.over_mean(1e-6, power=0.5), formulas.refused)),
        ),
    ),
    compared=True,
)
