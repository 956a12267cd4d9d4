"""Nine frameworks without MaxRL: what their source says an advantage is, in the lab's own words."""

from maxrl_lab.llm.frameworks import formulas
from maxrl_lab.llm.frameworks.formulas import by_position, by_prompt, by_size, over_batch
from maxrl_lab.llm.frameworks.reading import ONLY_CENTRED, WHITENED, Method, Reading

_ONE_GROUP = "A batch that lost a rollout becomes a single group."

RLLM = Reading(
    "rllm",
    "rllm-org/rllm",
    "rllm/trainer/algorithms/advantage.py",
    "9beb6e0f67",
    "2026-08-15",
    (
        Method("grpo (default)", by_prompt(formulas.standardised(0, 1e-6), formulas.raw)),
        Method("grpo, norm_adv_by_std_in_grpo=false", by_prompt(formulas.centred, formulas.raw)),
        Method("rloo", by_prompt(formulas.leave_one_out, formulas.raw)),
        Method("reinforce", by_prompt(formulas.raw)),
        Method("reinforce_plus_plus_baseline", over_batch(by_prompt(formulas.centred), 0, 1e-6, centre=False)),
        Method("prpo", over_batch(by_prompt(formulas.raw), 0, 1e-6)),
    ),
    compared=True,
)
NEMO_RL = Reading(
    "NeMo-RL",
    "NVIDIA-NeMo/RL",
    "nemo_rl/algorithms/advantage_estimator.py",
    "7ea279abfb",
    "2026-08-22",
    (
        Method(
            "grpo (default: leave-one-out mean and deviation)",
            by_prompt(formulas.standardised_by_others, formulas.nothing),
            "Groups are formed by the prompt's tokens: a prompt twice in a batch is one group.",
        ),
        Method("grpo, normalize_rewards=false", by_prompt(formulas.leave_one_out, formulas.nothing)),
        Method(
            "grpo, use_leave_one_out_baseline=false",
            by_prompt(formulas.standardised(1, 1e-6), formulas.nothing),
        ),
        Method("reinforce_plus_plus", over_batch(by_prompt(formulas.centred), 0, 1e-8), WHITENED),
    ),
    compared=True,
)
OPENRLHF = Reading(
    "OpenRLHF",
    "OpenRLHF/OpenRLHF",
    "openrlhf/trainer/ppo_utils/experience_maker.py",
    "openrlhf 0.11.2",
    "2026-09",
    (
        Method("group_norm", by_position(formulas.standardised(1, 1e-9), formulas.refused)),
        Method("dr_grpo", by_position(formulas.centred, formulas.refused)),
        Method("rloo", by_position(formulas.leave_one_out, formulas.refused)),
        Method("reinforce_baseline", over_batch(by_position(formulas.centred, formulas.refused), 0, 1e-8), WHITENED),
        Method("reinforce", over_batch(by_position(formulas.raw), 0, 1e-8), WHITENED),
    ),
    package="openrlhf==0.11.2",
)
SLIME = Reading(
    "slime",
    "THUDM/slime",
    "slime/ray/rollout.py",
    "624b824a89",
    "2026-08-21",
    (
        Method(
            "grpo (default), gspo, cispo",
            formulas.one_group_if_ragged(by_size(formulas.standardised(1, 1e-6), formulas.nothing)),
            _ONE_GROUP,
        ),
        Method("grpo, --disable-grpo-std-normalization", formulas.one_group_if_ragged(formulas.centred)),
        Method(
            "reinforce_plus_plus_baseline",
            over_batch(formulas.one_group_if_ragged(formulas.centred), 1, 1e-8),
            WHITENED,
        ),
    ),
    compared=True,
)
TINKER = Reading(
    "tinker-cookbook",
    "thinking-machines-lab/tinker-cookbook",
    "tinker_cookbook/rl/data_processing.py",
    "tinker-cookbook 0.6.1",
    "2026-11",
    (
        Method(
            "compute_advantages",
            by_prompt(formulas.centred),
            "Constant groups are dropped if `remove_constant_reward_groups`, and always in the recipe rl_loop.",
        ),
    ),
    package="tinker-cookbook==0.6.1",
)
OPEN_INSTRUCT = Reading(
    "open-instruct",
    "allenai/open-instruct",
    "open_instruct/data_loader.py",
    "e6c3044aa6",
    "2026-08-20",
    (
        Method(
            "centered (default)",
            by_position(formulas.centred),
            f"{ONLY_CENTRED} Constant groups are dropped by default.",
        ),
        Method(
            "standard",
            by_position(formulas.standardised(0, 1e-8)),
            "`mask_truncated_completions` drops rollouts before the rewards are cut into rows.",
        ),
    ),
)
_AREAL_GROUP_NORM = formulas.full_slices_only(
    by_size(formulas.standardised(1, 1e-5), formulas.nothing), formulas.divided(1e-5)
)
AREAL = Reading(
    "AReaL",
    "inclusionAI/AReaL",
    "areal/utils/data.py",
    "areal 1.0.4",
    "2026-06",
    (
        Method("no reward_norm (default)", by_prompt(formulas.raw)),
        Method(
            "reward_norm: group mean, group std",
            _AREAL_GROUP_NORM,
            "Rollouts after the last full slice keep mean 0 and deviation 0, and are divided by the guard.",
        ),
        Method("reward_norm: group mean", formulas.full_slices_only(formulas.centred, formulas.raw)),
        Method(
            "reward_norm: group mean, mean_leave1out",
            formulas.full_slices_only(by_size(formulas.leave_one_out, formulas.raw), formulas.raw),
        ),
        Method(
            "gsm8k_grpo.yaml: group mean and std, then adv_norm: batch",
            over_batch(_AREAL_GROUP_NORM, 1, 1e-5),
            WHITENED,
        ),
    ),
    package="areal==1.0.4",
)
MS_SWIFT = Reading(
    "ms-swift",
    "modelscope/ms-swift",
    "swift/rl_core/advantage.py",
    "ms-swift 4.6.0",
    "2026-10",
    (
        Method(
            "grpo (default), scale_rewards=group",
            by_position(formulas.standardised(1, 1e-4), formulas.nothing),
            "With `dynamic_num_samples` groups are formed by prompt, at the n that came back.",
        ),
        Method("grpo, scale_rewards=none", by_position(formulas.centred)),
        Method("grpo, scale_rewards=batch", formulas.over_reward_deviation(formulas.centred, 1e-4)),
        Method("rloo", by_position(formulas.leave_one_out, formulas.nothing)),
        Method("reinforce_plus_plus", over_batch(by_position(formulas.centred), 1, 1e-4, centre=False)),
    ),
    package="ms-swift==4.6.0",
)
NANOCHAT = Reading(
    "nanochat",
    "karpathy/nanochat",
    "scripts/chat_rl.py",
    "92d63d4e8b",
    "2026-07-03",
    (
        Method(
            '"GRPO"',
            by_prompt(formulas.centred),
            "Its header says so. Its loss divides by the tokens of a pass: see `maxrl-lab run length_bias`.",
        ),
    ),
)
