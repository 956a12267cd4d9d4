"""The audit finds what theory.md says: order N-1, RL at N = 2, scale 1 - 1/N, pooled groups, own-reward baselines."""

import json
import sys

import numpy as np
import pytest
import torch

from maxrl_lab import audit, estimators, exact
from maxrl_lab.audit import identify, noise, picture
from maxrl_lab.audit.expectation import check


def algorithm_1(rewards):
    mean = rewards.mean(-1, keepdim=True)
    return torch.where(mean > 0, (rewards - mean) / mean.clamp(min=1e-12), torch.zeros_like(rewards))


def pooled(rewards):
    return rewards / rewards.mean().clamp(min=1e-12)


def own_reward_pass_at_2(rewards):
    """PKPO's score for k = 2, minus the mean score of the others, which still depends on the rollout's own reward."""
    successes, count = rewards.sum(-1, keepdim=True), rewards.shape[-1]
    scores = rewards * 2 * (count - successes) / (count - 1)
    return scores - (scores.sum(-1, keepdim=True) - scores) / (count - 1)


def names(report):
    return {trap.name for trap in report.traps}


@pytest.mark.parametrize("rollouts", [3, 4, 8, 64])
def test_algorithm_1_is_of_order_n_minus_1(rollouts):
    report = audit.audit(algorithm_1, rollouts=rollouts)
    wanted = f"truncated_likelihood:order={rollouts - 1}"
    assert report.objective == wanted
    assert report.nearest.scale == pytest.approx(1.0, abs=1e-9)
    assert report.optimises("truncated_likelihood:order=N-1", scale=1.0)
    assert not report.optimises("truncated_likelihood:order=N")
    assert "nothing_at_N=1" in names(report)


def test_algorithm_1_owes_its_missing_order_to_a_baseline_with_its_own_reward():
    (trap,) = [trap for trap in audit.audit("maxrl", rollouts=8).traps if trap.name == "own_reward_baseline"]
    assert "truncated_likelihood:order=8" in trap.message


@pytest.mark.parametrize("name", ["grpo", "maxrl"])
def test_grpo_and_algorithm_1_are_plain_rl_at_two_rollouts(name):
    report = audit.audit(name, rollouts=2)
    assert report.objective == "expected_reward"
    # the order-(N-1) objective at N = 2 is the expected reward under another name
    assert report.optimises("truncated_likelihood:order=N-1")


def test_mean_centred_form_is_rl_scaled():
    report = audit.audit(lambda rewards: rewards - rewards.mean(-1, keepdim=True), rollouts=5)
    assert report.objective == "expected_reward"
    assert report.nearest.scale == pytest.approx(1 - 1 / 5, abs=1e-12)
    assert report.optimises("expected_reward")
    assert not report.optimises("expected_reward", scale=1.0)
    assert report.optimises("expected_reward", scale=0.8)
    # only the scale suffers from the own-reward baseline, so it is not called a trap
    assert "own_reward_baseline" not in names(report)


@pytest.mark.parametrize(
    ("name", "objective"),
    [
        ("reinforce", "expected_reward"),
        ("rloo", "expected_reward"),
        ("maxrl_no_baseline", "truncated_likelihood:order=6"),
        ("maxrl_control_variate", "truncated_likelihood:order=6"),
        ("maxrl_leave_one_out", "truncated_likelihood:order=6"),
        ("maxrl_cross_fitted", "truncated_likelihood:order=6"),
        ("maxrl_order:order=4", "truncated_likelihood:order=4"),
        ("pkpo:k=3", "pass_at_k:k=3"),
        ("pkpo:k=N", "pass_at_k:k=6"),
    ],
)
def test_every_estimator_is_named(name, objective):
    report = audit.audit(name, rollouts=6)
    assert report.objective == objective
    assert report.nearest.scale == pytest.approx(1.0, abs=1e-9)
    assert report.nearest.residual < 1e-9
    assert report.valid


def test_grpo_is_no_known_objective_at_eight_rollouts():
    report = audit.audit("grpo", rollouts=8)
    assert report.objective is None
    assert report.nearest.residual > 0.1
    assert "no known objective exactly" in report.text()
    # at a large N it is nearer to its population limit than to the mean reward
    large = audit.audit("grpo", rollouts=256)
    assert large.compared_to("grpo_limit").residual < large.compared_to("expected_reward").residual


def test_pooled_successes_are_found_and_no_objective_is_claimed():
    report = audit.audit(pooled, rollouts=8)
    assert "pooled_groups" in names(report)
    assert not report.valid
    assert report.objective is None
    assert not report.optimises("truncated_likelihood:order=N")
    assert "log E[p]" in report.text()


def pooled_share(rewards):
    """Algorithm 1, but divided by the batch's share of successes."""
    return (rewards - rewards.mean(-1, keepdim=True)) / rewards.mean().clamp(min=1e-12)


def pooled_deviation(rewards):
    """GRPO, but divided by the batch's standard deviation."""
    share = rewards.mean()
    return (rewards - rewards.mean(-1, keepdim=True)) / (share * (1 - share)).clamp(min=1e-12).sqrt()


@pytest.mark.parametrize("rollouts", [2, 3, 4, 5])
@pytest.mark.parametrize("function", [pooled_share, pooled_deviation])
def test_pooling_is_found_for_small_groups(function, rollouts):
    """At N = 2 only the group of one success has advantages, and its share, 1/2, must not be the batch's."""
    report = audit.audit(function, rollouts=rollouts)
    assert "pooled_groups" in names(report)
    assert not report.valid
    assert audit.audit(function, rollouts=rollouts, batched=False).valid


def test_pooling_is_no_trap_for_a_function_of_one_group():
    report = audit.audit(pooled, rollouts=8, batched=False)
    assert report.valid
    assert report.objective == "truncated_likelihood:order=8"


def test_pooling_is_found_in_a_function_of_batches_only():
    def batches_only(rewards):
        tasks, count = rewards.shape
        return rewards - rewards.sum() / (tasks * count)

    assert "pooled_groups" in names(audit.audit(batches_only, rollouts=4))


def test_own_reward_baseline_is_found():
    report = audit.audit(own_reward_pass_at_2, rollouts=4)
    assert report.objective is None
    (trap,) = [trap for trap in report.traps if trap.name == "own_reward_baseline"]
    assert "pass_at_k:k=2" in trap.message
    # theory.md: 0.833 instead of 0.75 (both over k) at p = 0.25, N = 4, k = 2
    place = noise.SHOWN_PASS_RATES.index(0.25)
    shown = float(next(line for line in report.text().splitlines() if "w_N(p)" in line).split()[1 + place])
    assert shown / 2 == pytest.approx(0.8333, abs=1e-3)


def test_randomness_is_found():
    report = audit.audit(lambda rewards: rewards + torch.rand(rewards.shape), rollouts=4)
    assert names(report) == {"random"}
    assert report.objective is None
    assert report.success == ()


def test_order_dependence_is_found_with_the_pair_that_shows_it():
    report = audit.audit(lambda rewards: rewards * torch.arange(rewards.shape[-1]), rollouts=4)
    assert names(report) == {"order_dependent"}
    assert "[1, 0, 0, 0]" in report.traps[0].message


def test_epsilon_explosion_at_one_rollout_is_found():
    def advantages(rewards):  # the mean of a single rollout set to 0, then divided by an epsilon
        mean = rewards.mean() if len(rewards) > 1 else torch.zeros(())
        return (rewards - mean) / (mean + 1e-6)

    report = audit.audit(advantages, rollouts=8, batched=False)
    (trap,) = [trap for trap in report.traps if trap.name == "explosion_at_N=1"]
    assert "1e+06" in trap.message


def test_explosion_in_the_table_is_found():
    report = audit.audit(lambda rewards: rewards / (rewards.mean() - 0.5 + 1e-9), rollouts=4, batched=False)
    assert "explosion" in names(report)


def test_advantages_that_are_not_numbers_are_found():
    report = audit.audit(lambda rewards: rewards / rewards.mean(), rollouts=4, batched=False)
    assert "not_finite" in names(report)
    assert "nonzero_at_K=0" not in names(report)  # one trap is enough for b(0) = nan
    assert report.objective is None
    assert "K = 0" in report.text()


def test_edges_and_non_binary_rewards_are_reported():
    assert {"nonzero_at_K=0", "accepts_non_binary"} <= names(audit.audit(lambda r: r - 0.5, rollouts=4))
    assert "nonzero_at_K=N" in names(audit.audit("reinforce", rollouts=4))
    assert "accepts_non_binary" not in names(audit.audit("reinforce", rollouts=4))
    (refusal,) = [trap for trap in audit.audit("rloo", rollouts=4).traps if trap.name == "refuses_N=1"]
    assert refusal.message == "raises at N = 1: rloo needs at least 2 rollouts in a group, got N = 1"
    assert names(audit.audit("maxrl_leave_one_out", rollouts=4)) == set()


def test_descending_gradient_is_not_accepted():
    report = audit.audit(lambda rewards: -rewards, rollouts=4)
    assert report.objective is None
    assert not report.optimises("expected_reward")
    assert "DESCENDS expected_reward" in report.text()


def test_a_function_that_learns_nothing():
    report = audit.audit(lambda rewards: rewards * 0, rollouts=4)
    assert report.nearest is None
    assert "optimises nothing" in report.text()


@pytest.mark.parametrize(
    "function",
    [
        lambda rewards: rewards - np.mean(rewards, axis=-1, keepdims=True),
        lambda rewards: [reward - sum(rewards) / len(rewards) for reward in rewards],
        lambda rewards: (rewards - rewards.mean(dim=1, keepdim=True)).float(),
    ],
)
def test_arrays_lists_and_batches_are_understood(function):
    report = audit.audit(function, rollouts=4)
    assert report.objective == "expected_reward"
    assert report.nearest.scale == pytest.approx(0.75, abs=1e-6)


def test_noise_is_the_exact_variance_on_a_bernoulli_policy():
    """REINFORCE at N = 1, p = 0.25: g = 1{r=1} (1-p); E g = p(1-p) = 0.1875, E g^2 = p(1-p)^2 = 0.140625."""
    (noise,) = [noise for noise in audit.audit("reinforce", rollouts=1).noise if noise.pass_rate == 0.25]
    assert noise.variance == pytest.approx(0.140625 - 0.1875**2, abs=1e-12)
    assert noise.relative == pytest.approx((0.140625 - 0.1875**2) ** 0.5 / 0.1875, abs=1e-12)


def test_report_is_plain_json():
    described = json.loads(json.dumps(audit.audit("maxrl", rollouts=4).to_json()))
    assert described["objective"] == "truncated_likelihood:order=3"
    assert described["success"] == [0.0, 3.0, 1.0, pytest.approx(1 / 3), 0.0]
    assert described["nearest"]["scale"] == pytest.approx(1.0)
    assert described["traps"][0]["name"] == "own_reward_baseline"


def test_text_shows_the_coefficients_of_a_large_group():
    text = audit.audit("maxrl", rollouts=64).text()
    row = next(line for line in text.splitlines() if "K successes" in line)
    assert row.split()[2:] == ["0", "1", "2", "3", "4", "5", "6", "7", "8", "16", "32", "48", "63", "64"]


def test_functions_that_cannot_be_called_are_refused():
    with pytest.raises(ValueError, match=r"does not turn rewards .* at N = 4 into as many advantages: no!"):
        audit.audit(lambda rewards: (_ for _ in ()).throw(RuntimeError("no!")), rollouts=4)
    with pytest.raises(ValueError, match="rollouts must be a whole number >= 1, got 0"):
        audit.audit("maxrl", rollouts=0)
    with pytest.raises(ValueError, match="unknown objective 'nothing'; choose one of: expected_reward"):
        audit.audit("maxrl", rollouts=2).optimises("nothing")


def test_a_group_of_one_teaches_maxrl_nothing_and_the_audit_says_what_learns():
    report = audit.audit("maxrl", rollouts=1)
    assert report.objective is None
    (trap,) = report.traps
    assert trap.name == "nothing_at_N=1"
    assert "maxrl_leave_one_out" in trap.message
    assert audit.audit("maxrl_leave_one_out", rollouts=1).objective == "expected_reward"


def test_what_follows_the_colon_decides_between_an_estimator_and_a_function(tmp_path, monkeypatch):
    (tmp_path / "grpo.py").write_text("def advantages(rewards):\n    return rewards\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "grpo", raising=False)
    assert audit.audit(audit.load("grpo:advantages", 4), rollouts=4).objective == "expected_reward"
    assert audit.load("grpo", 4) == estimators.make("grpo")
    assert audit.load("grpo:ddof=1", 4) == estimators.make("grpo", ddof=1)
    with pytest.raises(ValueError, match=r"cannot load 'pkpo:k' \(expected module:function, or pkpo:option=value"):
        audit.load("pkpo:k", 4)
    sys.modules.pop("grpo")


def test_load_finds_functions_and_estimators(tmp_path, monkeypatch):
    (tmp_path / "users_own_module.py").write_text("def advantages(rewards):\n    return rewards\nVALUE = 3\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert audit.audit(audit.load("users_own_module:advantages", 4), rollouts=4).objective == "expected_reward"
    assert isinstance(audit.load("pkpo:k=N/2", 4), estimators.Estimator)
    with pytest.raises(ValueError, match="is a int, expected a function"):
        audit.load("users_own_module:VALUE", 4)
    with pytest.raises(ValueError, match="cannot load 'users_own_module:absent'"):
        audit.load("users_own_module:absent", 4)
    with pytest.raises(ValueError, match="cannot load 'no_such_module:f'"):
        audit.load("no_such_module:f", 4)
    with pytest.raises(ValueError, match="unknown estimator 'nothing'"):
        audit.load("nothing", 4)


def test_grid_reaches_below_one_success_in_n_groups():
    for rollouts in (1, 8, 4096):
        p = identify.grid(rollouts)
        assert float(p.min()) == pytest.approx(min(1e-3, 0.1 / rollouts))
        assert float(p.max()) == pytest.approx(0.999)
        assert bool((p.diff() > 0).all())


def test_fixture_passes_and_returns_the_report(assert_optimises):
    report = assert_optimises(algorithm_1, "truncated_likelihood:order=N-1", rollouts=8)
    assert report.rollouts == 8


def test_fixture_fails_with_the_curve_it_found():
    with pytest.raises(pytest.fail.Exception) as failure:
        check(algorithm_1, "truncated_likelihood:order=N", rollouts=8)
    message = str(failure.value)
    assert "expected truncated_likelihood:order=8, times any" in message
    assert "w_N(p)" in message
    assert "truncated_likelihood:order=7" in message


def test_fixture_asks_for_a_scale():
    check(lambda rewards: 3 * rewards, "expected_reward", rollouts=4, scale=3.0)
    with pytest.raises(pytest.fail.Exception, match=r"times 1.0"):
        check(lambda rewards: 3 * rewards, "expected_reward", rollouts=4, scale=1.0)


def test_a_function_that_raises_for_some_groups():
    """Algorithm 1 in plain Python, without a guard at K = 0."""

    def advantages(rewards):
        mean = sum(rewards) / len(rewards)
        return [float(reward) / float(mean) - 1 for reward in rewards]

    report = audit.audit(advantages, rollouts=4, batched=False)
    assert names(report) == {"raises"}
    assert "raises at rewards [0, 0, 0, 0]: ZeroDivisionError" in report.traps[0].message
    assert report.objective is None


def test_orders_are_told_apart_in_large_groups():
    table = torch.cat([torch.zeros(1, dtype=torch.float64), 8192 / torch.arange(1, 8193, dtype=torch.float64) - 1])
    p = identify.grid(8192)
    failure = torch.cat([torch.zeros(1), -torch.ones(8191), torch.zeros(1)]).double()
    curve = exact.table_weight(table, failure, p)
    report = audit.Report("f", 8192, (), (), tuple(p.tolist()), tuple(curve.tolist()), None, (), ())
    assert report.optimises("truncated_likelihood:order=N-1")
    assert not report.optimises("truncated_likelihood:order=N")


def test_picture_shows_the_audited_and_the_nearest_curve():
    figure = picture.plot(audit.audit("maxrl", rollouts=4))
    audited, nearest = figure.axes[0].lines
    np.testing.assert_allclose(audited.get_ydata(), nearest.get_ydata(), rtol=1e-9)
    grpo = picture.plot(audit.audit("grpo", rollouts=8)).axes[0]
    audited, _, power = grpo.lines
    inside = np.isin(audited.get_xdata(), power.get_xdata())
    np.testing.assert_allclose(power.get_ydata(), audited.get_ydata()[inside], rtol=0.012)
    assert power.get_xdata().min() >= 1 / 8
    assert power.get_label().startswith("p^-0.25 (1-p)^-0.249 × ")
    with pytest.raises(ValueError, match="has no weight curve to plot"):
        picture.plot(audit.audit(lambda rewards: rewards * torch.arange(4), rollouts=4))
