"""The lab's estimators inside verl: through its own table, its own `compute_advantage`, config and loss functions."""

import subprocess
import sys
from importlib.metadata import entry_points

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from verl import DataProto
from verl.trainer.ppo import core_algos
from verl.trainer.ppo.ray_trainer import compute_advantage
from verl.utils.config import omega_conf_to_dataclass

from maxrl_lab import estimators
from maxrl_lab.llm.verl import advantages as lab
from maxrl_lab.llm.verl import config as verl_config
from maxrl_lab.llm.verl import rules
from maxrl_lab.runs.command_line import guarded

SETTINGS = {
    "pkpo": ["k=3"],
    "pkpo_centred": ["k=2"],
    "maxrl_order": ["order=N-1"],
    "maxrl_centred": ["order=N/2"],
    "maclaurin": ["order=N"],
    "passk_training": ["k=2", "std=0"],
    "grpo": ["ddof=1", "epsilon=0.0001"],
    "constant_baseline": ["value=0.25"],
    "power": ["s=0.5", "t=0"],
    "tsallis": ["q=0.5"],
    "rs_grpo": ["beta=2"],
}
OPTIONS = {
    "pkpo": {"k": 3},
    "pkpo_centred": {"k": 2},
    "maxrl_order": {"order": 3},
    "maxrl_centred": {"order": 2},
    "maclaurin": {"order": 4},
    "passk_training": {"k": 2, "std": 0},
    "grpo": {"ddof": 1, "epsilon": 1e-4},
    "constant_baseline": {"value": 0.25},
    "power": {"s": 0.5, "t": 0},
    "tsallis": {"q": 0.5},
    "rs_grpo": {"beta": 2},
}
"""The same at N = 4."""
OURS = ["algorithm.adv_estimator=maxrl_lab/maxrl", "actor_rollout_ref.rollout.n=4"]
EXACT = ["actor_rollout_ref.actor.loss_agg_mode=seq-mean-token-sum", "data.train_batch_size=256"]


@pytest.fixture(scope="module", autouse=True)
def registered():
    return lab.register()


@pytest.fixture(scope="module")
def default_config():
    return verl_config.compose(OURS)


def changed(config, *settings):
    """A copy with settings changed or, as by `+key=value` on verl's command line, added."""
    return OmegaConf.merge(OmegaConf.create({**config}), OmegaConf.from_dotlist(list(settings)))


def batch(rewards, uids, lengths=None):
    """Rollouts of up to 5 tokens, rewarded on their last one, as verl does."""
    count = len(rewards)
    lengths = torch.full((count,), 3) if lengths is None else torch.tensor(lengths)
    mask = (torch.arange(5) < lengths[:, None]).long()
    token_level = torch.zeros(count, 5)
    token_level[torch.arange(count), lengths.clamp(min=1) - 1] = torch.tensor(rewards)
    tensors = {"token_level_rewards": token_level, "response_mask": mask}
    return DataProto.from_dict(tensors=tensors, non_tensors={"uid": np.array(uids, dtype=object)})


def advantages(data, name, config):
    return compute_advantage(data, adv_estimator=f"maxrl_lab/{name}", config=config).batch["advantages"]


@pytest.mark.parametrize("name", estimators.ESTIMATORS)
def test_every_estimator_in_verl_gives_its_table_to_shuffled_groups(name, default_config):
    rewards = [1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0]
    uids = ["c", "a", "b", "a", "c", "b", "b", "c", "a", "b", "c", "a"]  # K: a 0, b 2, c 3
    lengths = [3, 1, 5, 2, 4, 3, 2, 1, 5, 4, 3, 2]
    config = changed(default_config.algorithm, *(f"maxrl_lab.{each}" for each in SETTINGS.get(name, [])))
    got = advantages(batch(rewards, uids, lengths), name, config)
    success, failure = estimators.make(name, **OPTIONS.get(name, {})).coefficients(4)
    for row, (reward, uid, length) in enumerate(zip(rewards, uids, lengths, strict=True)):
        successes = {"a": 0, "b": 2, "c": 3}[uid]
        expected = float((success if reward else failure)[successes])
        assert got[row, :length].tolist() == pytest.approx([expected] * length, abs=1e-6)
        assert got[row, length:].tolist() == [0.0] * (5 - length)


def test_maxrl_by_hand(default_config):
    """One success in four: 4/1 - 1 = 3 for it, -1 for the others; no success: nothing."""
    data = batch([0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], [7, 7, 7, 7, 8, 8, 8, 8])
    got = advantages(data, "maxrl", default_config.algorithm)
    assert got[:, 0].tolist() == [-1, 3, -1, -1, 0, 0, 0, 0]
    assert data.batch["returns"].tolist() == got.tolist()


def test_verl_padding_is_no_group(default_config):
    """verl fills a batch up with rows of one more uid, whose response mask is empty."""
    got = advantages(batch([1.0, 0.0, 0.0], ["a", "a", "pad0"], [2, 2, 0]), "maxrl", default_config.algorithm)
    assert got[:, 0].tolist() == [1, -1, 0]
    only = advantages(batch([0.0, 0.0], ["pad0", "pad0"], [0, 0]), "maxrl", default_config.algorithm)
    assert not only.any()


def test_a_rejected_rollout_counts_neither_in_k_nor_in_n(default_config):
    """verl empties the mask of a rollout that it rejects: here of a success, and of a failure of the other group."""
    data = ([1.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0], ["a"] * 4 + ["b"] * 4, [3, 0, 2, 1, 3, 2, 0, 4])
    got = advantages(batch(*data), "maxrl", default_config.algorithm)
    assert got[:, 0].tolist() == [2, 0, -1, -1, 2, -1, 0, -1]  # K = 1 of 3: 3/1 - 1
    with pytest.raises(ValueError, match="got 3 of prompt 'a' and 4 of prompt 'b': did rollouts fail"):
        advantages(batch(*data[:2], [3, 0, 2, 1, 3, 2, 1, 4]), "maxrl", default_config.algorithm)


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.float64, torch.bfloat16])
def test_rewards_of_any_type(dtype):
    rewards = torch.tensor([[0, 1], [0, 0]]).to(dtype)
    got, _ = lab.GroupAdvantages("maxrl")(rewards, torch.ones(2, 2, dtype=torch.long), index=np.zeros(2))
    assert got.tolist() == [[1, 1], [-1, -1]]
    assert got.is_floating_point()


def test_rows_with_a_uid_each_are_refused_where_nothing_could_be_learnt(default_config):
    alone = batch([1.0, 0.0, 1.0], ["a", "b", "c"])
    with pytest.raises(ValueError, match=r"every prompt has one rollout, from which maxrl learns nothing: .* a uid of"):
        advantages(alone, "maxrl", default_config.algorithm)
    assert advantages(alone, "reinforce", default_config.algorithm)[:, 0].tolist() == [1, 0, 1]


def test_groups_of_different_sizes_by_choice(default_config):
    """Sizes 3 and 1, 2 on average: 2/3 and 2 times the tables at N = 3 and N = 1, whatever the order of the rows."""
    data = ([1.0, 0.0, 0.0, 1.0], [-3, 10**12, 10**12, 10**12])
    config = changed(default_config.algorithm, "maxrl_lab.ragged=look_up")
    got = advantages(batch(*data), "maxrl_leave_one_out", config)
    # N = 1: 1; N = 3, K = 1: 3 and -1
    expected = [2 * 1, -2 / 3, -2 / 3, 3 * 2 / 3]
    assert got[:, 0].tolist() == pytest.approx(expected)
    lenient = changed(default_config.algorithm, "maxrl_lab.ragged=zero")
    assert advantages(batch(*data), "rloo", lenient)[:, 0].tolist() == pytest.approx([0, -1 / 3, -1 / 3, 2 / 3])
    halved = changed(default_config.algorithm, "maxrl_lab.ragged=look_up", "maxrl_lab.k=N-1")
    got = advantages(batch([1.0, 0.0, 0.0, 1.0, 0.0], [0, 0, 1, 1, 1]), "pkpo", halved)  # k = 1 and 2
    assert got[:, 0].tolist() == pytest.approx([2.5 / 2 * 1, 0, 0, 2.5 / 3 * 2, 0])


def test_padding_needs_no_name(default_config):
    got = advantages(batch([1.0, 0.0, 0.0], ["a", "a", None], [2, 2, 0]), "maxrl", default_config.algorithm)
    assert got[:, 0].tolist() == [1, -1, 0]


def test_a_text_form_is_an_estimator_of_its_own(default_config):
    """pass@2 with one success in two: k C(1,1)/C(1,1) = 2."""
    assert lab.register("pkpo:k=2") == ("maxrl_lab/pkpo:k=2",)
    assert advantages(batch([1.0, 0.0], [0, 0]), "pkpo:k=2", default_config.algorithm)[:, 0].tolist() == [2, 0]


def test_registering_twice_changes_nothing(registered):
    before = dict(core_algos.ADV_ESTIMATOR_REGISTRY)
    assert lab.register() == registered == tuple(f"maxrl_lab/{name}" for name in estimators.ESTIMATORS)
    assert before == core_algos.ADV_ESTIMATOR_REGISTRY
    with pytest.raises(ValueError, match="unknown estimator 'maxrll'"):
        lab.register("maxrll")


@pytest.mark.parametrize(
    ("name", "rewards", "uids", "settings", "message"),
    [
        ("maxrl", [1.0, 0.0, 0.0], ["a", "a", "b"], [], "same number of rollouts, got 1 of prompt 'b' and 2 of"),
        ("maxrl", [0.75, 0.0], ["a", "a"], [], r"got 0\.75\. .*use_kl_in_reward"),
        ("maxrl", [float("nan"), 0.0], ["a", "a"], [], "got nan"),
        ("maxrl", [1.0, 0.0, 0.0], ["a", "a", "b"], [], r"\+algorithm\.maxrl_lab\.ragged=look_up takes every group"),
        (
            "maxrl",
            [1.0, 0.0],
            [float("nan"), float("nan")],
            [],
            "must name the prompt of every rollout, got nan at row 0",
        ),
        ("maxrl", [1.0, 0.0], ["a", None], [], "must name the prompt of every rollout, got None at row 1"),
        ("rloo", [1.0, 0.0], ["a", "b"], [], "rloo needs at least 2 rollouts in a group, got N = 1 of prompt 'a'"),
        ("rloo", [1.0, 0, 0], ["a", "a", "b"], ["maxrl_lab.ragged=look_up"], "got N = 1 of prompt 'b'"),
        ("rloo", [1.0, 0], ["a", "a"], ["maxrl_lab.ragged=drop"], "unknown value of algorithm.maxrl_lab.ragged 'drop'"),
        ("pkpo", [1.0, 0.0], ["a", "a"], [], r"needs the option 'k'.*\+algorithm\.maxrl_lab\.k=4"),
        ("pkpo", [1.0, 0.0], ["a", "a"], ["maxrl_lab.k=3"], "pkpo with k=3 needs at least 3 rollouts"),
        ("maxrl", [1.0, 0.0], ["a", "a"], ["maxrl_lab.k=2"], "no option 'k'"),
        ("maxrl", [1.0, 0.0], ["a", "a"], ["use_kl_in_reward=true"], "algorithm.use_kl_in_reward=True: the reward"),
        ("maxrl", [1.0, 0.0], ["a", "a"], ["rollout_correction.rollout_rs=token_k1"], "rollout_rs=token_k1"),
        ("reinforce", [1.0, 0.0], ["a", "a"], ["filter_groups.enable=true"], "reinforce has a gradient"),
    ],
)
def test_refusals_in_verl(name, rewards, uids, settings, message, default_config):
    with pytest.raises(ValueError, match=message):
        advantages(batch(rewards, uids), name, changed(default_config.algorithm, *settings))


def test_dropping_groups_without_a_gradient_is_harmless(default_config):
    config = changed(default_config.algorithm, "filter_groups.enable=true")
    assert advantages(batch([1.0, 0.0], ["a", "a"]), "maxrl", config)[:, 0].tolist() == [1, -1]


def test_an_estimator_needs_to_know_the_prompts():
    with pytest.raises(ValueError, match="needs index"):
        lab.GroupAdvantages("maxrl")(torch.ones(2, 1), torch.ones(2, 1))
    with pytest.raises(ValueError, match="all 2 rollouts, got 1"):
        lab.GroupAdvantages("maxrl")(torch.ones(2, 1), torch.ones(2, 1), index=["a"])


def test_the_installed_entry_point_registers_the_estimators(monkeypatch):
    (point,) = (each for each in entry_points(group="verl.plugins") if each.value == "maxrl_lab.llm.verl.plugin")
    monkeypatch.setattr(core_algos, "ADV_ESTIMATOR_REGISTRY", {})
    monkeypatch.delitem(sys.modules, point.value, raising=False)
    point.load()
    assert {f"maxrl_lab/{name}" for name in estimators.ESTIMATORS} == {*core_algos.ADV_ESTIMATOR_REGISTRY}


@pytest.mark.slow  # one more import of verl
def test_a_fresh_verl_knows_the_estimators():
    """As in verl's own processes: nothing of the lab is imported by hand. Needs the installed entry point."""
    code = (
        "import verl\nfrom verl.trainer.ppo.core_algos import get_adv_estimator_fn\n"
        "print(get_adv_estimator_fn('maxrl_lab/maxrl'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.strip() == "GroupAdvantages(estimator='maxrl')", done.stderr[-2000:]


def test_verl_defaults_are_refused_for_the_token_mean_alone(default_config):
    with pytest.raises(ValueError, match="change the objective of maxrl") as refused:
        verl_config.check_config(default_config)
    assert [line.split("=")[0].strip() for line in str(refused.value).splitlines()[1:]] == [
        "actor_rollout_ref.actor.loss_agg_mode"
    ]


def test_what_the_paper_asks_for_is_fine(default_config):
    assert verl_config.check_config(changed(default_config, *EXACT)) == ()


@pytest.mark.parametrize(
    "setting",
    [
        "algorithm.use_kl_in_reward=true",
        "algorithm.rollout_correction.rollout_rs=token_k1",
        "actor_rollout_ref.actor.use_kl_loss=true",
        "actor_rollout_ref.actor.entropy_coeff=0.001",
        "actor_rollout_ref.actor.loss_agg_mode=seq-mean-token-mean",
        "actor_rollout_ref.actor.loss_agg_mode=seq-mean-token-sum-norm",
        "actor_rollout_ref.actor.policy_loss.loss_mode=geo_mean",
        "actor_rollout_ref.rollout.do_sample=false",
        "actor_rollout_ref.rollout.top_p=0.95",
        "actor_rollout_ref.rollout.top_k=20",
        "actor_rollout_ref.rollout.repetition_penalty=1.1",
        "actor_rollout_ref.rollout.temperature=0",
    ],
)
def test_refused_unless_allowed(setting, default_config):
    key = setting.split("=")[0]
    config = changed(default_config, *EXACT, setting)
    with pytest.raises(ValueError, match=key):
        verl_config.check_config(config)
    assert verl_config.check_config(config, allow=[key]) == ()
    assert verl_config.check_config(changed(config, f"algorithm.maxrl_lab.allow=[{key}]")) == ()


@pytest.mark.parametrize(
    "setting",
    [
        "algorithm.rollout_correction.rollout_is=token",
        "actor_rollout_ref.rollout.temperature=0.7",
        "actor_rollout_ref.actor.ppo_epochs=2",
        "actor_rollout_ref.actor.ppo_mini_batch_size=64",
        "trainer.v1.trainer_mode=separate_async",
    ],
)
def test_noted(setting, default_config):
    (note,) = verl_config.check_config(changed(default_config, *EXACT, setting))
    assert note.startswith(setting)


def test_filtering_is_judged_by_the_estimator(default_config):
    config = changed(default_config, *EXACT, "algorithm.filter_groups.enable=true")
    assert verl_config.check_config(config) == ()
    with pytest.raises(ValueError, match="filter_groups"):
        verl_config.check_config(changed(config, "algorithm.adv_estimator=maxrl_lab/maxrl_no_baseline"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["algorithm.adv_estimator=grpo"], "expected algorithm.adv_estimator=maxrl_lab/"),
        (["algorithm.adv_estimator=maxrl_lab/rloo", "actor_rollout_ref.rollout.n=1"], "rloo needs at least 2"),
        (["algorithm.adv_estimator=maxrl_lab/pkpo"], "needs the option 'k'"),
    ],
)
def test_config_without_a_usable_estimator(settings, message, default_config):
    with pytest.raises(ValueError, match=message):
        verl_config.check_config(changed(default_config, *settings))


def test_another_config_and_an_unknown_allowance_are_named(default_config):
    with pytest.raises(ValueError, match=r"cannot allow 'loss_agg_mode'; choose from: algorithm\.use_kl"):
        verl_config.check_config(default_config, allow=["loss_agg_mode"])
    lacking = OmegaConf.create({**default_config, "trainer": {}})
    with pytest.raises(ValueError, match=r"without trainer\.v1\.trainer_mode"):
        verl_config.check_config(lacking)


def test_the_command(capsys):
    assert verl_config.main([*OURS, *EXACT]) == 0
    assert capsys.readouterr().out == "ok\n"
    assert guarded(verl_config.main, [*OURS, "no.such=1"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("maxrl-lab: error: verl's config does not take these settings: ")
    assert error.count("\n") == 1
    assert verl_config.main(["--help"]) == 0
    assert capsys.readouterr().out.startswith("usage: python -m maxrl_lab.llm.verl.config OVERRIDES")


@pytest.mark.parametrize("mode", ["token-mean", "token-sum", "seq-mean-token-sum", "seq-mean-token-mean"])
def test_accepted_aggregations_weigh_tokens_alike_in_every_batch(mode, default_config):
    """verl's `agg_loss` on two batches of two rollouts: one weight for every token, and the same in both batches."""
    weights = []
    for lengths in ([1, 4], [3, 5]):
        losses, mask = torch.zeros(2, 5, requires_grad=True), (torch.arange(5) < torch.tensor(lengths)[:, None]).float()
        (gradient,) = torch.autograd.grad(core_algos.agg_loss(losses, mask, mode), losses)
        weights += gradient[mask > 0].tolist()
    rule = next(rule for rule in rules.RULES if rule.key.endswith("loss_agg_mode"))
    assert rule.is_fine(mode, default_config) == (max(weights) - min(weights) < 1e-6)


@pytest.mark.parametrize("mode", sorted({*core_algos.POLICY_LOSS_REGISTRY} - {"clip_cov"}))  # it drops random tokens
def test_exact_losses_have_the_advantage_as_their_gradient(mode, default_config):
    """On-policy, summed over tokens and averaged over 4 rollouts: d loss / d log-prob = -A / 4 on every token."""
    settings = (
        f"policy_loss.loss_mode={mode}",
        "policy_loss.dro_beta=0.1",
        "ppo_micro_batch_size_per_gpu=1",
        "rollout_n=4",
    )
    actor = changed(default_config.actor_rollout_ref.actor, *settings)
    generator = torch.Generator().manual_seed(0)
    log_probs = -torch.rand(4, 5, generator=generator)
    mask = (torch.arange(5) < torch.tensor([5, 2, 3, 1])[:, None]).float()
    scaled = torch.tensor([3.0, -1.0, -1.0, 2.0])[:, None] * mask
    live = log_probs.clone().requires_grad_()
    loss, _ = core_algos.get_policy_loss_fn(mode)(
        old_log_prob=log_probs,
        log_prob=live,
        advantages=scaled,
        response_mask=mask,
        loss_agg_mode="seq-mean-token-sum",
        config=omega_conf_to_dataclass(actor),
    )
    (gradient,) = torch.autograd.grad(loss, live)
    assert torch.allclose(gradient, -scaled / 4, atol=1e-5) == (mode in rules.EXACT_LOSSES)
