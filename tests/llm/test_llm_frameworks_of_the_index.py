"""The formulas of frameworks that are on the package index, beside the functions of these releases.

The releases are fetched without their dependencies; their functions are taken out of the source and run alone.
"""

import itertools
import subprocess
import sys
import zipfile
from collections import defaultdict
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from isolated import isolated

from maxrl_lab.llm.frameworks import with_maxrl, without_maxrl
from maxrl_lab.llm.frameworks.readings import READINGS

pytestmark = pytest.mark.slow


class Nobody:
    """Stands in for a logger: every call is fine."""

    def __getattr__(self, _):
        return lambda *_, **__: None


NAMESPACE = {
    "torch": torch,
    "np": np,
    "defaultdict": defaultdict,
    "itertools": itertools,
    "dist": torch.distributed,
    "logger": Nobody(),
    "logger_": Nobody(),
}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Return a function from a release and a path below its packages to the text of that file."""
    folder = tmp_path_factory.mktemp("releases")

    def read(release, path):
        name = release.partition("==")[0].replace("-", "_")
        if not list(folder.glob(f"{name}-*.whl")):
            command = "pip download --quiet --no-deps --only-binary :all: --python-version 3.12 --dest"
            arguments = [sys.executable, "-m", *command.split(), str(folder), release]
            done = subprocess.run(arguments, capture_output=True, text=True, check=False)
            if done.returncode:
                pytest.skip(f"{release} cannot be fetched: {done.stderr.strip().splitlines()[-1]}")
        (wheel,) = folder.glob(f"{name}-*.whl")
        with zipfile.ZipFile(wheel) as archive:
            (member,) = [member for member in archive.namelist() if member.endswith(path)]
            return archive.read(member).decode()

    return read


def flat(groups):
    """Return the rewards of a batch in a row, and the number of every rollout's prompt."""
    return torch.cat(list(groups)).float(), np.repeat(np.arange(len(groups)), [len(group) for group in groups])


def dealt(advantages, groups):
    return list(torch.as_tensor(advantages).double().reshape(-1).split([len(group) for group in groups]))


def skyrl(source):
    path = "skyrl/backends/skyrl_train/utils/"
    package = with_maxrl.SKYRL.package
    texts = [source(package, path + "ppo_utils.py"), source(package, path + "torch_utils.py")]
    estimators = {
        "grpo (default)": ("compute_grpo_outcome_advantage", {}),
        "grpo, grpo_norm_by_std=false": ("compute_grpo_outcome_advantage", {"grpo_norm_by_std": False}),
        "rloo": ("compute_rloo_outcome_advantage", {}),
        "maxrl": ("compute_maxrl_advantage", {}),
        "reinforce++": ("compute_reinforce_plus_plus_outcome_advantage", {"gamma": 1.0}),
    }
    names = ["masked_mean", "masked_var", "masked_whiten"]
    names += dict.fromkeys(name for name, _ in estimators.values())
    functions = isolated(texts, names, NAMESPACE)

    def formula(name, settings):
        def run(groups, _):
            rewards, prompts = flat(groups)
            rewards = rewards[:, None]
            return dealt(functions[name](rewards, torch.ones_like(rewards), index=prompts, **settings)[0], groups)

        return run

    return {method: formula(*estimator) for method, estimator in estimators.items()}


def tinker(source):
    text = source(without_maxrl.TINKER.package, without_maxrl.TINKER.path)
    compute = isolated([text], ["compute_advantages"], NAMESPACE)["compute_advantages"]

    def run(groups, _):
        return [a.double() for a in compute([SimpleNamespace(get_total_rewards=group.tolist) for group in groups])]

    return {"compute_advantages": run}


def areal(source):
    text = source(without_maxrl.AREAL.package, without_maxrl.AREAL.path)
    normalization = isolated([text], ["Normalization"], NAMESPACE)["Normalization"]

    def normalised(rewards, rollouts, **settings):
        config = {"mean_level": "batch", "std_level": "batch", "mean_leave1out": False, "std_unbiased": True}
        return normalization(SimpleNamespace(**{**config, "eps": 1e-5, "group_size": rollouts, **settings}))(rewards)

    def formula(*steps):
        def run(groups, rollouts):
            rewards = flat(groups)[0]
            for settings in steps:
                rewards = normalised(rewards, rollouts, **settings)
            return dealt(rewards, groups)

        return run

    group = {"mean_level": "group", "std_level": "group"}
    return {
        "reward_norm: group mean, group std": formula(group),
        "reward_norm: group mean": formula({**group, "std_level": None}),
        "reward_norm: group mean, mean_leave1out": formula({**group, "std_level": None, "mean_leave1out": True}),
        "gsm8k_grpo.yaml: group mean and std, then adv_norm: batch": formula(group, {}),
    }


def ms_swift(source):
    text = source(without_maxrl.MS_SWIFT.package, without_maxrl.MS_SWIFT.path)
    compute = isolated([text], ["compute_advantages"], NAMESPACE)["compute_advantages"]

    def formula(estimator, scale):
        def run(groups, rollouts):
            rewards = flat(groups)[0][:, None]
            return dealt(compute(rewards, torch.ones(1), rollouts, estimator, scale)[0], groups)

        return run

    return {
        "grpo (default), scale_rewards=group": formula("grpo", "group"),
        "grpo, scale_rewards=none": formula("grpo", "none"),
        "grpo, scale_rewards=batch": formula("grpo", "batch"),
        "rloo": formula("rloo", "none"),
        "reinforce_plus_plus": formula("reinforce_plus_plus", "batch"),
    }


def openrlhf(source):
    package = without_maxrl.OPENRLHF.package
    texts = [
        source(package, "openrlhf/trainer/ppo_utils/experience_maker.py"),
        source(package, "openrlhf/models/utils.py"),
    ]
    names = ["compute_reward", "get_cumulative_returns", "compute_advantages_and_returns"]
    functions = isolated(texts, names, {**NAMESPACE, "apply_length_penalties": lambda *_: None})

    def formula(estimator):
        def run(groups, rollouts):
            if rollouts == 1 and estimator != "reinforce":
                raise ValueError("its command line asserts more than one rollout")
            rewards = flat(groups)[0]
            ones = torch.ones(len(rewards), 1)
            experience = SimpleNamespace(
                index=list(range(len(rewards))), rewards=rewards, kl=ones * 0, action_mask=ones, info={}, values=None
            )
            maker = SimpleNamespace(
                strategy=SimpleNamespace(args=_openrlhf_settings(estimator, rollouts)),
                advantage_estimator=estimator,
                kl_ctl=SimpleNamespace(value=0.0),
                get_cumulative_returns=lambda *given: functions["get_cumulative_returns"](None, *given),
            )
            functions["compute_advantages_and_returns"](maker, [experience])
            return dealt(experience.advantages, groups)

        return run

    return {name: formula(name) for name in ("group_norm", "dr_grpo", "rloo", "reinforce_baseline", "reinforce")}


def _openrlhf_settings(estimator, rollouts):
    advantage = SimpleNamespace(estimator=estimator, gamma=1.0, lambd=1.0, no_std_norm=False)
    return SimpleNamespace(
        algo=SimpleNamespace(advantage=advantage),
        rollout=SimpleNamespace(n_samples_per_prompt=rollouts),
        reward=SimpleNamespace(clip_range=None),
    )


FRAMEWORKS = {
    with_maxrl.SKYRL: skyrl,
    without_maxrl.TINKER: tinker,
    without_maxrl.AREAL: areal,
    without_maxrl.MS_SWIFT: ms_swift,
    without_maxrl.OPENRLHF: openrlhf,
}


def batches():
    """Yield (groups, N): every group of up to 6 rollouts beside a mixed one, ragged groups, nearly constant ones."""
    for rollouts in range(1, 7):
        mixed = torch.arange(rollouts).double() % 2
        for rewards in itertools.product((0.0, 1.0), repeat=rollouts):
            yield [torch.tensor(rewards, dtype=torch.float64), mixed], rollouts
    for sizes, rollouts in (((4, 3), 4), ((3, 3, 2), 4), ((2, 1), 2)):
        yield [(torch.arange(size) < 1 + row % 2).double() for row, size in enumerate(sizes)], rollouts
    yield [torch.tensor([tail, 0.001, 0, 0], dtype=torch.float64) for tail in (0.0, 1.0)], 4


def outcome(formula, groups, rollouts):
    """Return all advantages in a row, or None if the formula raises."""
    try:
        return torch.cat(formula(groups, rollouts))
    except Exception:  # a framework may raise anything
        return None


@pytest.mark.parametrize(("reading", "function"), FRAMEWORKS.items(), ids=[reading.framework for reading in FRAMEWORKS])
def test_the_formula_gives_what_the_release_gives(reading, function, source):
    formulas = {method.name: method.formula for method in reading.methods}
    real = function(source)
    assert real.keys() <= formulas.keys()
    assert formulas.keys() - real.keys() <= {"no reward_norm (default)"}  # of AReaL: no function is called
    for name, groups_and_rollouts in itertools.product(real, batches()):
        expected = outcome(real[name], *groups_and_rollouts)
        result = outcome(formulas[name], *groups_and_rollouts)
        assert (expected is None) == (result is None), (name, groups_and_rollouts)
        if expected is not None:
            torch.testing.assert_close(
                result, expected, rtol=2e-4, atol=2e-5, equal_nan=True, msg=f"{name} at {groups_and_rollouts}"
            )


def test_every_release_is_run():
    assert {reading for reading in READINGS if reading.package} == FRAMEWORKS.keys()
