"""Trajectories: every row against the policies that were trained, and that paths are legal."""

import dataclasses
import itertools
from collections import Counter

import pytest
import torch
from small_navigation import context_in, frames

from envs.gridworld import levels
from envs.gridworld.mazes import MOVES
from experiments.navigation import trajectories
from maxrl_lab.tabular.study import pass_rates

SMOKE = trajectories.PRESETS["smoke"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("trajectories")


@pytest.fixture(scope="module")
def tables(folder):
    """The smoke preset's tables; the checkpoints stay in `folder`."""
    return frames(trajectories.run(SMOKE, context_in(folder)))


@pytest.fixture(scope="module")
def policies(folder, tables):
    """The reported policies, from the checkpoint, and their names."""
    world = SMOKE.world()
    stack = world.stack([0, 0, 0])
    state = context_in(folder).checkpoint.stage("trajectories-report-seed-0-1").load()
    stack.load_state_dict(state["stack"])
    return stack, world, [method.name for method in SMOKE.methods()]


class TestTrajectories:
    def test_columns(self, tables):
        policy = ["method", "learning_rate", "level"]
        columns = {
            "sweep": ["method", "rollouts", "learning_rate", "seed", "step", "pass_at_1"],
            "policies": [
                *("method", "learning_rate", "rollouts", "seed", "level"),
                *("distance", "untrained", "pass_rate"),
            ],
            "visits": [*policy, "row", "col", "visits"],
            "paths": [*policy, "path", "success", "time", "row", "col"],
            "levels": ["level", "distance", "text"],
        }
        assert {name: list(table.columns) for name, table in tables.items()} == columns
        assert all(table.notna().all(axis=None) for table in tables.values())

    def test_the_sweep_is_kept_and_chose_the_rates(self, tables):
        sweep = tables["sweep"]
        assert len(sweep) == len(SMOKE.estimators) * len(SMOKE.learning_rates)
        assert (set(sweep.seed), set(sweep.step)) == ({2}, {SMOKE.steps})
        best = sweep.loc[sweep.groupby("method").pass_at_1.idxmax()].set_index("method").learning_rate
        for name in ("policies", "visits", "paths"):
            used = tables[name].groupby("method").learning_rate.unique()
            assert {method: rates.tolist() for method, rates in used.items()} == {m: [best[m]] for m in used.index}

    def test_levels_are_one_of_each_distance(self, tables):
        table = tables["levels"]
        assert table.distance.tolist() == [2, 4]
        made = SMOKE.make_levels("train", SMOKE.levels)
        assert table.text.tolist() == [made[level].text() for level in table.level]
        assert [levels.parse(text).distance for text in table.text] == [2, 4]

    def test_pass_rates_are_the_policies_own(self, tables, policies):
        stack, world, names = policies
        rates, untrained = pass_rates(stack, world.train), pass_rates(world.stack([0]), world.train)[0]
        assert len(tables["policies"]) == len(names) * 2 * 2  # seeds, levels
        table = tables["policies"].query("seed == 0")
        assert table.groupby("level").distance.unique().map(list).tolist() == [[2], [4]]
        for row in table.itertuples():
            assert row.pass_rate == pytest.approx(float(rates[names.index(row.method), row.level]), rel=1e-9)
            assert row.untrained == pytest.approx(float(untrained[row.level]), rel=1e-4)

    def test_visits_of_a_level_sum_to_the_mean_length(self, tables, policies):
        # Six comparisons at |z| < 4.5: false-alarm rate 4e-5; the stream is fixed.
        stack, world, names = policies
        stream = torch.Generator().manual_seed(2602)
        group = world.train.tables.rollout(
            stack.log_policy(world.train.inputs, world.train.rows).detach(), 20_000, stream
        )
        lengths = group.lengths.double()
        sums = tables["visits"].groupby(["method", "level"]).visits.sum()
        assert len(sums) == 6
        for (method, level), expected in sums.items():
            sampled = lengths[names.index(method), int(level)]
            assert abs(float(sampled.mean()) - expected) < 4.5 * float(sampled.std()) / 20_000**0.5
            assert 0 < expected <= SMOKE.horizon

    def test_visits_are_listed_for_every_free_cell_and_none_on_the_goal(self, tables):
        visits = tables["visits"]
        for row in tables["levels"].itertuples():
            level = levels.parse(row.text)
            free = {(int(r), int(c)) for r, c in zip(*(~level.walls).nonzero(), strict=True)}
            for _, part in visits[visits.level == row.level].groupby("method"):
                assert Counter(zip(part.row, part.col, strict=True)) == Counter(free)
                by_cell = part.set_index(["row", "col"]).visits
                assert by_cell[level.goal] == 0
                assert by_cell[level.start] >= 1
                assert (by_cell >= 0).all()

    def test_paths_are_legal_and_end_on_the_goal_if_and_only_if_right(self, tables):
        texts = tables["levels"].set_index("level").text
        paths = tables["paths"].groupby(["method", "level", "path"])
        outcomes = Counter()
        for (method, number, _), part in paths:
            level = levels.parse(texts[number])
            cells = list(zip(part.row.astype(int), part.col.astype(int), strict=True))
            assert part.time.tolist() == list(range(SMOKE.horizon + 1))
            assert cells[0] == level.start
            for (row, col), after in itertools.pairwise(cells):
                nexts = [(row + down, col + right) for down, right in MOVES]
                assert not level.walls[after]
                if after == (row, col):  # bumped into a wall, or is there
                    assert (row, col) == level.goal or any(level.walls[cell] for cell in nexts)
                else:
                    assert (row, col) != level.goal
                    assert after in nexts
            (success,) = part.success.unique()
            assert (cells[-1] == level.goal) == success
            outcomes[method, number, bool(success)] += 1
        assert max(outcomes.values()) == SMOKE.kept
        assert {success for _, _, success in outcomes} == {True, False}

    def test_settings_that_are_refused(self, refuses):
        with refuses("learning_rates must be distinct, got 0.1 0.1"):
            dataclasses.replace(SMOKE, learning_rates=(0.1, 0.1))
        with refuses("shown must be among the distances (2, 4), got 3"):
            dataclasses.replace(SMOKE, shown=(2, 3))
