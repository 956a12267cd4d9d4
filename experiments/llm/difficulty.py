"""How hard are reasoning-gym's tasks for the embedded model? Pass rates by task, settings and worked examples.

    python -m experiments.llm.difficulty        (five minutes on 2 cores)

A task to learn from needs a pass rate between 5 and 40 percent: below, most groups have no success; above, there is
little left to learn. Answers to the training split of each task are sampled at temperature 1, as in training.
"""

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace

import torch

from maxrl_lab import evaluate
from maxrl_lab.llm.jobs import inputs
from maxrl_lab.llm.jobs.recipe import Recipe
from maxrl_lab.llm.models.transformers_engine import TransformersEngine
from maxrl_lab.llm.problems import rewards
from maxrl_lab.runs.command_line import guarded

PROBLEMS, SAMPLES = 24, 16
_SUM = "chain_sum"
CASES: tuple[tuple[str, dict[str, int], int, int], ...] = (
    *(
        (_SUM, {"min_terms": terms, "max_terms": terms, "min_digits": low, "max_digits": high}, shots, 6)
        for terms, low, high in ((2, 1, 1), (2, 1, 2), (2, 2, 2))
        for shots in (0, 1, 2)
    ),
    (_SUM, {"min_terms": 3, "max_terms": 3, "min_digits": 1, "max_digits": 1}, 1, 6),
    ("products", {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1}, 1, 6),
    ("gcd", {"min_value": 1, "max_value": 30}, 1, 6),
    ("lcm", {"min_value": 1, "max_value": 12}, 1, 6),
    ("basic_arithmetic", {"min_terms": 2, "max_terms": 3, "min_digits": 1, "max_digits": 1}, 1, 6),
    ("count_bits", {"min_n": 1, "max_n": 64}, 1, 4),
    ("leg_counting", {"min_animals": 1, "max_animals": 2, "min_instances": 1, "max_instances": 3}, 1, 6),
    ("number_sequence", {"min_terms": 4, "max_terms": 5, "max_complexity": 1}, 1, 6),
    ("letter_counting", {"min_words": 2, "max_words": 4}, 1, 4),
)
"""The cases: a task, its settings, the number of worked examples, the largest number of tokens in an answer."""


def main(_: Sequence[str]) -> int:
    """Print a line for each case: mean pass rate, share of problems with a success, share of answers cut off."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before the hub's client is imported
    base = Recipe(
        template="plain", chat=False, extraction="line", end="\n", train_problems=PROBLEMS, test_problems=1,
        samples=SAMPLES, test_temperature=1.0, test_top_p=1.0,
    )  # fmt: skip
    policy = inputs.load_policy(base, torch.device("cpu"))
    print(f"pass rates of {base.model} at temperature 1: {PROBLEMS} problems, {SAMPLES} samples each\n")
    print("| task | settings | examples | prompt (tokens) | pass rate | pass@16 | cut off |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for task, config, shots, length in CASES:
        recipe = replace(
            base, source=f"reasoning_gym/{task}", config=json.dumps(config), shots=shots, answer_length=length
        )
        problems = list(inputs.training_set(recipe, seed=1))
        engine = TransformersEngine(policy.model, policy.tokenizer, recipe.sampling())
        written = engine.complete([problem["prompt"] for problem in problems])
        right = torch.tensor(
            [
                [rewards.is_right(answer.text, problem) for answer in answers]
                for answers, problem in zip(written, problems, strict=True)
            ]
        )
        cut = sum(not answer.ended for answers in written for answer in answers) / right.numel()
        prompt = len(policy.tokenizer(problems[0]["prompt"])["input_ids"])
        settings = ", ".join(f"{name}={value}" for name, value in config.items())
        rate, solved = right.double().mean(), evaluate.signal_fraction(right.double())
        print(f"| {task} | {settings} | {shots} | {prompt} | {rate:.3f} | {solved:.2f} | {cut:.2f} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main, sys.argv[1:]))
