"""Rollouts through a table: what they do, what they report, and how often, against every path there is."""

import pytest
import torch
from scipy import stats
from small_worlds import WORLDS, corridor, every_path, graphs, outcomes, random_policy, slippery

from maxrl_lab.randomness import generator
from maxrl_lab.tabular import rollout as walking
from maxrl_lab.tabular.rollout import read_paths, roll_out
from maxrl_lab.tabular.tasks import TabularTasks

KINDS = [(name, when) for name in WORLDS for when in ("stationary", "in time")]
FALSE_ALARMS = 1e-4
"""Of each family of statistical tests together; every stream is fixed."""


def world(name, when, seed=0):
    """(tasks, a random policy for them)"""
    tasks = WORLDS[name]
    return tasks, random_policy(tasks, 1 if when == "stationary" else tasks.horizon, seed=seed)


def rare(kind, place, chances):
    """A task of one step whose success is state `place` of 0, 1 and 2, reached with these chances in one way of three.

    Returns the task and a policy for it.
    """
    actions = 3 if kind == "action" else 1
    end, start = torch.arange(4) < 3, torch.tensor([0.0, 0, 0, 1], dtype=torch.float64)
    tables = {
        "successors": torch.arange(3).expand(1, 4, 3),
        "start": start[None],
        "success": (torch.arange(4) == place)[None],
        "failure": (end & (torch.arange(4) != place))[None],
    }
    if kind == "slip":
        slips = {"successors": torch.arange(3).expand(1, 4, 1, 3), "probabilities": chances.expand(1, 4, 1, 3)}
        tables |= slips
    if kind == "start":
        tables |= {"successors": torch.full((1, 4, 1), 3), "start": torch.cat([chances, chances.new_zeros(1)])[None]}
    log_policy = (chances if kind == "action" else chances.new_ones(1)).log()
    return TabularTasks(**tables, horizon=1), log_policy.expand(1, 1, 1, 4, actions)


def ended(tasks, task, state):
    return bool(tasks.success[task, state] or tasks.failure[task, state])


def equal(one, other):
    """Groups or paths of groups, number for number."""
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in ("rewards", "log_probs", "lengths"))


class TestFrequencies:
    @pytest.mark.parametrize(("name", "when"), KINDS)
    def test_the_share_of_right_rollouts_is_the_exact_pass_rate(self, name, when):
        # 12 exact binomial tests over all worlds and both kinds of policy.
        tasks, log_policy = world(name, when)
        successes = tasks.rollout(log_policy, 50_000, generator(1)).rewards.sum(-1)
        for count, rate in zip(successes.tolist(), tasks.pass_rate(log_policy).tolist(), strict=True):
            assert stats.binomtest(count, 50_000, rate).pvalue > FALSE_ALARMS / 12

    @pytest.mark.parametrize(("name", "when"), KINDS)
    def test_every_path_comes_as_often_as_it_should(self, name, when):
        # 12 chi-square tests over all paths; those expected under 10 times are counted together.
        tasks, log_policy = world(name, when)
        _, paths = tasks.paths(log_policy, 50_000, generator(2))
        for task in range(tasks.shape[0]):
            known = every_path(tasks, task, len(log_policy))
            place = {key: index for index, key in enumerate(known.keys)}
            keys = zip(map(tuple, paths.states[task].tolist()), map(tuple, paths.actions[task].tolist()), strict=True)
            # a path that cannot be is a KeyError
            counts = torch.tensor([place[key] for key in keys]).bincount(minlength=len(place)).double()
            wanted = 50_000 * known.probabilities(log_policy[:, task])
            often = wanted >= 10
            counts, wanted = (
                torch.cat([each[often], each[~often].sum()[None]]) if (~often).any() else each
                for each in (counts, wanted)
            )
            assert len(counts) > 5
            assert stats.chisquare(counts, wanted).pvalue > FALSE_ALARMS / 12

    @pytest.mark.parametrize(("name", "task"), [("graphs", 1), ("slippery", 0)])
    def test_successes_of_a_group_are_binomial(self, name, task):
        # 20,000 groups of 4: K ~ Binomial(4, p) only if rollouts and tasks are independent. Two chi-square tests.
        tasks = WORLDS[name].select([task] * 20_000)
        log_policy = random_policy(WORLDS[name].select([task]))
        rate = float(WORLDS[name].select([task]).pass_rate(log_policy))
        successes = tasks.rollout(log_policy.expand(-1, 20_000, -1, -1), 4, generator(3)).rewards.sum(-1)
        wanted = 20_000 * stats.binom(4, rate).pmf(range(5))
        assert stats.chisquare(successes.bincount(minlength=5), wanted).pvalue > FALSE_ALARMS / 2

    def test_the_ends_of_the_random_range_draw_what_is_possible(self):
        # 0 and the largest float32 below 1 both occur once in 2^24 numbers. First and last states, actions and
        # successors are impossible here: from 0 follow states 1, 2 and 4, success; from nearly 1 states 2 and 4.
        moves = [[3, 3, 3]], [[3, 2, 3]], [[3, 4, 3]], [[0, 0, 0]], [[0, 0, 0]]
        tasks = TabularTasks(
            successors=torch.tensor(moves)[None].expand(1, 5, 3, 3),
            start=torch.tensor([[0.0, 0.5, 0.5, 0.0, 0.0]], dtype=torch.float64),
            success=torch.tensor([[False] * 4 + [True]]),
            failure=torch.tensor([[False] * 3 + [True, False]]),
            horizon=2,
            probabilities=torch.tensor([0.0, 1.0, 0.0]).expand(1, 5, 3, 3),
        )
        for dtype in (torch.float32, torch.float64):
            # in float32 rows end a little off 1 (here 1% off, to show): the last action must not get the rest
            log_policy = torch.tensor([-torch.inf, -0.01, -torch.inf], dtype=dtype).expand(1, 1, 1, 5, 3)
            for extreme, length in ((0.0, 2), (1 - 2**-24, 1)):
                uniforms = torch.full((1, 5, 1, 1), extreme)
                group, segments = roll_out(tasks, log_policy, uniforms, [0])
                assert group.rewards.all()
                assert group.lengths.item() == length
                assert set(read_paths(tasks, segments, group).actions.flatten().tolist()) <= {1, -1}

    @pytest.mark.parametrize("kind", ["action", "slip", "start"])
    @pytest.mark.parametrize("place", range(3))
    @pytest.mark.parametrize("p", [2.0**-30, 2.0**-25, 2.0**-22])
    def test_what_is_rarer_than_the_step_of_a_number_comes_as_often_as_it_should(self, monkeypatch, kind, place, p):
        # State 3 leads to success with probability p, to failures else. All numbers near the share of success are
        # tried, with many parts of a step; no other number leads there.
        chances = torch.full((3,), (1 - p) / 2, dtype=torch.float64)
        chances[place] = p
        tasks, log_policy = rare(kind, place, chances)
        middle = int(chances[:place].sum() * 2**24)
        near = torch.arange(max(0, middle - 6), min(2**24, middle + 6)) / 2**24
        parts = (torch.arange(512) + 0.5) / 512
        monkeypatch.setattr("maxrl_lab.tabular.rollout.part_of_step", lambda _uniforms: parts)
        rows = {"action": 1, "slip": 2, "start": 2}[kind]
        uniforms = near.expand(512, rows, 1, -1).contiguous()
        group, _ = roll_out(tasks, log_policy.expand(512, -1, -1, -1, -1), uniforms, range(512))
        assert float(group.rewards.double().sum(-1).mean() / 2**24) == pytest.approx(p, abs=2.0**-24 / 500)

    @pytest.mark.parametrize("count", range(1, 10))
    @pytest.mark.parametrize("kind", ["action", "slip"])
    def test_the_middle_of_each_ones_share_of_the_numbers_draws_it(self, kind, count):
        # One step from state 0 to one of `count` equally likely states, with a number from the middle of each share.
        # Rows of probabilities are padded to powers of two, in which nothing may be found.
        after, states = torch.arange(1, count + 1), count + 1
        chances = torch.full((count,), 1 / count, dtype=torch.float64)
        tables = {"successors": after.expand(1, states, count)}
        if kind == "slip":
            tables = {
                "successors": after.expand(1, states, 1, count),
                "probabilities": chances.expand(1, states, 1, count),
            }
        tasks = TabularTasks(
            **tables,
            start=torch.eye(states, dtype=torch.float64)[:1],
            success=(torch.arange(states) > 0)[None],
            failure=torch.zeros(1, states, dtype=torch.bool),
            horizon=1,
        )
        policy = (chances if kind == "action" else chances.new_ones(1)).log().expand(1, 1, 1, states, -1)
        middle = ((torch.arange(count) + 0.5) / count).expand(1, 1, -1)
        uniforms = middle if kind == "action" else torch.cat([torch.full((1, 1, count), 0.5), middle])
        group, segments = roll_out(tasks, policy, uniforms[None], [0])
        assert read_paths(tasks, segments, group).states[0, 0, :, 1].tolist() == after.tolist()

    def test_an_impossible_action_is_never_drawn(self):
        # In every state one action is impossible: the first, the middle or the last one.
        tasks = graphs(horizon=6)
        probabilities = torch.tensor([[0.0, 0.6, 0.4], [0.3, 0.0, 0.7], [0.5, 0.5, 0.0]])
        log_policy = probabilities[torch.arange(5) % 3].log().expand(3, 5, 3)
        group, paths = tasks.paths(log_policy, 50_000, generator(4))
        moved = paths.actions >= 0
        assert (paths.actions[moved] != paths.states[..., :-1][moved] % 3).all()
        assert group.log_probs.isfinite().all()


class TestPaths:
    @pytest.mark.parametrize(("name", "when"), KINDS)
    def test_each_step_follows_the_table(self, name, when):
        tasks, log_policy = world(name, when)
        _, paths = tasks.paths(log_policy, 200, generator(5))
        assert paths.states.shape == (tasks.shape[0], 200, tasks.horizon + 1)
        assert paths.actions.shape == (tasks.shape[0], 200, tasks.horizon)
        for task in range(tasks.shape[0]):
            for states, actions in zip(paths.states[task].tolist(), paths.actions[task].tolist(), strict=True):
                assert tasks.start[task, states[0]] > 0
                for before, action, after in zip(states[:-1], actions, states[1:], strict=True):
                    if ended(tasks, task, before):
                        assert (action, after) == (-1, before)
                    else:
                        assert after in [s for _, s in outcomes(tasks, task, before, action)]

    @pytest.mark.parametrize(("name", "when"), KINDS)
    def test_the_group_is_what_the_paths_did(self, name, when):
        tasks, log_policy = world(name, when)
        group, paths = tasks.paths(log_policy, 200, generator(6))
        for task in range(tasks.shape[0]):
            for rollout in range(200):
                states, actions = paths.states[task, rollout].tolist(), paths.actions[task, rollout].tolist()
                log_prob, length = 0.0, 0
                for step, (state, action) in enumerate(zip(states[:-1], actions, strict=True)):
                    if not ended(tasks, task, state):
                        log_prob += float(log_policy[step % len(log_policy), task, state, action])
                        length += 1
                assert group.rewards[task, rollout] == tasks.success[task, states[-1]]
                assert group.lengths[task, rollout] == length
                assert float(group.log_probs[task, rollout]) == pytest.approx(log_prob, abs=1e-12)

    @pytest.mark.parametrize(("name", "when"), KINDS)
    def test_are_those_of_rollout(self, name, when):
        tasks, log_policy = world(name, when)
        group, _ = tasks.paths(log_policy, 50, generator(7))
        assert equal(group, tasks.rollout(log_policy, 50, generator(7)))

    @pytest.mark.parametrize(("name", "when"), KINDS)
    def test_a_walk_in_torch_is_that_in_numpy(self, name, when, monkeypatch):
        # A GPU walks in torch and never looks who has ended; here it does so on the CPU.
        tasks, log_policy = world(name, when)
        group, paths = tasks.paths(log_policy, 50, generator(7))
        monkeypatch.setattr(walking, "_array", lambda tensor: tensor)
        monkeypatch.setattr(walking, "_STEPS_BETWEEN_LOOKS", tasks.horizon + 1)
        in_torch, paths_in_torch = tasks.paths(log_policy, 50, generator(7))
        assert torch.equal(in_torch.rewards, group.rewards)
        assert torch.equal(in_torch.lengths, group.lengths)
        assert torch.allclose(in_torch.log_probs, group.log_probs, rtol=1e-12)
        assert all(torch.equal(one, other) for one, other in zip(paths_in_torch, paths, strict=True))

    def test_cells_have_a_type_that_holds_their_numbers(self):
        for count, integer in ((2**31, torch.int32), (2**31 + 1, torch.int64)):
            assert walking.integer_below(count) == integer
            assert torch.tensor(count - 1).to(integer) == count - 1

    def test_rollouts_that_all_end_early_stand_still(self):
        # Always ahead: 3 steps of 11, so the loop ends before the horizon.
        log_policy = torch.tensor([-torch.inf, 0.0]).expand(1, 4, 2)
        group, paths = corridor(horizon=11).paths(log_policy, 2, generator(0))
        assert paths.states.tolist() == [[[0, 1, 2, 3] + [3] * 8] * 2]
        assert paths.actions.tolist() == [[[1] * 3 + [-1] * 8] * 2]
        assert group.lengths.tolist() == [[3, 3]]
        assert group.log_probs.tolist() == [[0.0, 0.0]]
        assert group.rewards.tolist() == [[True, True]]

    def test_a_policy_in_time_uses_the_row_of_each_step(self):
        # Back, ahead, back, ahead, ahead, ahead from 0: only the time tells the moves apart.
        moves = [0, 1, 0, 1, 1, 1]
        log_policy = torch.eye(2)[moves].log()[:, None, None, :].expand(6, 1, 4, 2)
        group, paths = corridor(horizon=6).paths(log_policy, 1, generator(0))
        assert paths.actions.flatten().tolist() == moves
        assert paths.states.flatten().tolist() == [0, 0, 1, 0, 1, 2, 3]
        assert group.rewards.item()

    @pytest.mark.parametrize("make", [corridor, slippery])
    def test_a_rollout_that_starts_on_the_end_takes_no_step(self, make):
        # All of them at once, so that there is no step at all to look back on.
        tasks = make()
        states = tasks.shape[1]
        start = torch.eye(states, dtype=torch.float64)[-1].expand(tasks.shape[0], -1)
        tasks = TabularTasks(tasks.successors, start, tasks.success, tasks.failure, tasks.horizon, tasks.probabilities)
        log_policy = random_policy(tasks).requires_grad_()
        group, paths = tasks.paths(log_policy, 3, generator(0))
        assert group.rewards.all()
        assert not group.lengths.any()
        assert not group.log_probs.any()
        assert (paths.states == states - 1).all()
        assert (paths.actions == -1).all()
        group.log_probs.sum().backward()
        assert not log_policy.grad.any()

    def test_random_starts_that_all_fall_on_the_end(self):
        # One rollout of a task that starts on an absorbing state with probability 0.3: some of 30 do, some do not.
        tasks = slippery().select([0])
        lengths = [int(tasks.rollout(random_policy(tasks), 1, generator(8, seed)).lengths) for seed in range(30)]
        assert min(lengths) == 0 < max(lengths)


class TestGradients:
    @pytest.mark.parametrize(("name", "when"), KINDS)
    def test_of_a_log_probability_is_the_number_of_visits(self, name, when):
        tasks, log_policy = world(name, when)
        log_policy.requires_grad_()
        group, paths = tasks.paths(log_policy, 20, generator(9))
        for task in range(tasks.shape[0]):
            for rollout in range(20):
                visits = torch.zeros_like(log_policy)
                for step, action in enumerate(paths.actions[task, rollout].tolist()):
                    if action >= 0:
                        visits[step % len(log_policy), task, paths.states[task, rollout, step], action] += 1
                (gradient,) = torch.autograd.grad(group.log_probs[task, rollout], log_policy, retain_graph=True)
                assert torch.equal(gradient, visits)

    def test_goes_to_the_run_that_was_rolled_out(self):
        tasks = WORLDS["graphs"]
        stack = random_policy(tasks, tasks.horizon, runs=3).requires_grad_()
        group = tasks.rollout(stack, 20, generator(10))
        group.log_probs[1].sum().backward()
        assert not stack.grad[[0, 2]].any()
        assert stack.grad[1].sum() == group.lengths[1].sum()

    def test_impossible_actions_and_ended_states_have_gradient_0_not_nan(self):
        tasks = corridor(horizon=11)
        log_policy = torch.full((1, 4, 2), -torch.inf)
        log_policy[0, :3, 1] = 0.0  # always ahead; on the end not even that
        log_policy.requires_grad_()
        tasks.rollout(log_policy, 5, generator(0)).log_probs.sum().backward()
        assert log_policy.grad.tolist() == [[[0.0, 5.0]] * 3 + [[0.0, 0.0]]]

    def test_through_logits_is_the_score(self):
        # The score of logits is visits less visits of the state times probabilities, which sums to 0 over actions.
        tasks, log_policy = world("slippery", "stationary")
        logits = log_policy.clone().requires_grad_()
        group = tasks.rollout(logits.log_softmax(-1), 100, generator(11))
        group.log_probs.sum().backward()
        assert logits.grad.abs().max() > 1
        assert torch.allclose(logits.grad.sum(-1), torch.zeros_like(logits[..., 0]), atol=1e-10)


class TestRandomNumbers:
    @pytest.mark.parametrize("name", list(WORLDS))
    def test_runs_use_the_same_numbers(self, name):
        tasks = WORLDS[name]
        stack = random_policy(tasks, runs=3)
        stack = stack[[0, 1, 0, 2]]
        group, paths = tasks.paths(stack, 30, generator(12))
        assert group.rewards.shape == (4, tasks.shape[0], 30)
        assert torch.equal(paths.states[0], paths.states[2])
        assert torch.equal(paths.actions[0], paths.actions[2])
        assert torch.allclose(group.log_probs[0], group.log_probs[2], rtol=1e-14)
        assert not torch.equal(paths.actions[0], paths.actions[1])

    @pytest.mark.parametrize(("name", "when"), KINDS)
    def test_a_run_alone_is_the_run_in_a_stack(self, name, when):
        tasks = WORLDS[name]
        stack = random_policy(tasks, 1 if when == "stationary" else tasks.horizon, runs=3)
        group, paths = tasks.paths(stack, 30, generator(13))
        for run in range(3):
            alone, own = tasks.paths(stack[run], 30, generator(13))
            assert alone.rewards.shape == (tasks.shape[0], 30)
            assert torch.equal(own.states, paths.states[run])
            assert torch.equal(own.actions, paths.actions[run])
            assert torch.equal(alone.rewards, group.rewards[run])
            # the order of a sum may depend on who else is summed
            assert torch.allclose(alone.log_probs, group.log_probs[run], rtol=1e-14)
            assert torch.equal(alone.lengths, group.lengths[run])

    def test_a_run_that_ends_early_waits_for_the_others(self):
        # The loop goes on for the run that never arrives; the other run must not change for that.
        tasks = corridor(horizon=11)
        ahead, back = (torch.tensor(row).expand(1, 1, 4, 2) for row in ([-torch.inf, 0.0], [0.0, -torch.inf]))
        group = tasks.rollout(torch.stack([ahead, back]), 4, generator(0))
        assert group.lengths.tolist() == [[[3] * 4], [[11] * 4]]
        assert group.rewards.tolist() == [[[True] * 4], [[False] * 4]]

    def test_the_stream_alone_decides(self):
        tasks, log_policy = world("slippery", "stationary")
        one = tasks.rollout(log_policy, 30, generator(14))
        torch.manual_seed(0)
        assert equal(one, tasks.rollout(log_policy, 30, generator(14)))
        assert not equal(one, tasks.rollout(log_policy, 30, generator(15)))

    def test_a_stationary_policy_may_be_written_out_in_time(self):
        tasks, log_policy = world("slippery", "stationary")
        written_out = log_policy.expand(tasks.horizon, -1, -1, -1)
        assert equal(tasks.rollout(log_policy, 30, generator(16)), tasks.rollout(written_out, 30, generator(16)))
        assert equal(tasks.rollout(log_policy, 30, generator(16)), tasks.rollout(log_policy[0], 30, generator(16)))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(("name", "when"), KINDS)
def test_on_a_gpu(name, when):
    # 12 exact binomial tests, as on the CPU.
    tasks, log_policy = world(name, when)
    on_gpu = tasks.to("cuda")
    rates = tasks.pass_rate(log_policy)
    assert torch.allclose(on_gpu.pass_rate(log_policy.cuda()).cpu(), rates, rtol=1e-12)
    policy = log_policy.cuda().requires_grad_()
    group, paths = on_gpu.paths(policy, 20_000, generator(17, device="cuda"))
    assert group.rewards.is_cuda
    assert paths.actions.is_cuda
    assert torch.equal((paths.actions >= 0).sum(-1), group.lengths)
    group.log_probs.sum().backward()
    assert policy.grad.sum() == group.lengths.sum()
    for count, rate in zip(group.rewards.sum(-1).tolist(), rates.tolist(), strict=True):
        assert stats.binomtest(count, 20_000, rate).pvalue > FALSE_ALARMS / 12
    for mine, there in zip(tasks.moments(log_policy), on_gpu.moments(log_policy.cuda()), strict=True):
        assert torch.allclose(mine, there.cpu(), rtol=1e-10)
