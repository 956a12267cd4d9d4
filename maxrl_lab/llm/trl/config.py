"""TRL's settings that decide the objective, what each must be for an estimator of the lab, and why."""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, NamedTuple

import torch

from maxrl_lab import extras, specs
from maxrl_lab.errors import InputError

try:
    from trl import GRPOConfig
except ModuleNotFoundError as error:
    raise extras.missing(error) or error from None

REQUIRED = {"scale_rewards": "none", "loss_type": "luspo", "importance_sampling_level": "sequence", "beta": 0.0}
"""What `settings` sets: the advantages stay the estimator's, are summed over an answer's tokens, and no KL is added."""


class Rule(NamedTuple):
    """One of TRL's settings that decides the objective."""

    holds: Callable[[GRPOConfig], bool]
    expected: str
    because: str


_SAMPLING = "answers would be sampled from another distribution than the one whose log-probabilities are learnt from"
_RESAMPLERS = (
    "do_sample",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "top_h",
    "typical_p",
    "epsilon_cutoff",
    "eta_cutoff",
    "repetition_penalty",
    "encoder_repetition_penalty",
    "no_repeat_ngram_size",
    "min_length",
    "min_new_tokens",
    "bad_words_ids",
    "suppress_tokens",
    "begin_suppress_tokens",
    "sequence_bias",
    "guidance_scale",
    "num_beams",
)

_SET_BY_TRL = ("do_sample", "temperature", "top_p", "top_k", "repetition_penalty")

RULES: dict[str, Rule] = {
    "scale_rewards": Rule(
        lambda args: args.scale_rewards == "none", "'none'", "the estimator alone decides the scale of advantages"
    ),
    "loss_type": Rule(
        lambda args: args.loss_type in ("luspo", "dr_grpo"),
        "'luspo' or 'dr_grpo'",
        "the others divide by numbers of tokens, which favours short right answers, or reweigh tokens",
    ),
    "beta": Rule(lambda args: args.beta == 0, "0", "a KL penalty is another objective"),
    "entropy_coef": Rule(
        lambda args: args.entropy_coef == 0 and not args.use_adaptive_entropy, "0", "a bonus is another objective"
    ),
    "router_aux_loss_coef": Rule(  # None stands for the model's own, which the trainer checks once there is a model
        lambda args: not args.router_aux_loss_coef, "0", "a balancing loss of experts is another objective"
    ),
    "top_entropy_quantile": Rule(
        lambda args: args.top_entropy_quantile == 1, "1", "leaving tokens out of the score makes the gradient biased"
    ),
    "delta": Rule(
        lambda args: args.delta is None, "None", "a bound on ratios below 1 would cut on-policy gradients off"
    ),
    "vllm_importance_sampling_correction": Rule(
        lambda args: not (args.use_vllm and args.vllm_importance_sampling_correction),
        "False",
        "it drops or reweighs rollouts that still count in their group's K",
    ),
    "vllm_structured_outputs_regex": Rule(lambda args: args.vllm_structured_outputs_regex is None, "None", _SAMPLING),
    "off_policy_mask_threshold": Rule(
        lambda args: args.off_policy_mask_threshold is None, "None", "dropped rollouts still count in their group's K"
    ),
    "multi_objective_aggregation": Rule(
        lambda args: args.multi_objective_aggregation == "sum_then_normalize",
        "'sum_then_normalize'",
        "an estimator needs one reward of 0 or 1",
    ),
    "top_p": Rule(lambda args: args.top_p == 1, "1", _SAMPLING),
    "top_k": Rule(lambda args: args.top_k == 0, "0", _SAMPLING),
    "min_p": Rule(lambda args: not args.min_p, "None", _SAMPLING),
    "repetition_penalty": Rule(lambda args: args.repetition_penalty == 1, "1", _SAMPLING),
    "generation_kwargs": Rule(
        lambda args: not set(args.generation_kwargs or {}) & set(_RESAMPLERS),
        f"none of {', '.join(_RESAMPLERS)}",
        _SAMPLING,
    ),
}
"""Setting of `GRPOConfig` to what it must be, for the gradient to be the estimator's."""


def settings(output_dir: str | Path, **changes: Any) -> GRPOConfig:
    """Return TRL's settings with `REQUIRED` and any changes.

    Unless changed, a device differentiates one group at a time, in bfloat16 if it is a GPU that computes in it.
    """
    bf16 = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    defaults = {"output_dir": str(output_dir), "bf16": bf16, **REQUIRED}
    if "num_generations" in changes:
        defaults["per_device_train_batch_size"] = changes["num_generations"]
    return GRPOConfig(**{**defaults, **changes})


def check_settings(args: GRPOConfig, allow: Collection[str] = ()) -> None:
    """Raise `InputError` for the first setting that makes the gradient another one, unless it is in `allow`."""
    for name in allow:
        specs.lookup(RULES, "setting to allow", name)
    for name, rule in RULES.items():
        if name not in allow and not rule.holds(args):
            raise InputError(refusal(name, getattr(args, name)))


def check_model(model: Any) -> None:
    """Raise `InputError` if the model's own generation settings would change the distribution that is sampled from.

    transformers takes from the model what TRL leaves open.
    """
    generation = getattr(model, "generation_config", None)
    for name in _RESAMPLERS:
        value = getattr(generation, name, None)
        neutral = (None, 0) if name in ("no_repeat_ngram_size", "min_new_tokens") else (None, 0, 1)
        if name not in _SET_BY_TRL and value not in neutral and value != []:
            raise InputError(
                f"the model's generation_config has {name} = {value!r}, expected none: {_SAMPLING}; "
                "if it is meant, say allow=('generation_kwargs',)"
            )


def refusal(name: str, got: object) -> str:
    """Return the message about a setting that breaks its rule in `RULES`."""
    rule = RULES[name]
    return f"{name} must be {rule.expected}, got {got!r}: {rule.because}; if it is meant, say allow=({name!r},)"
