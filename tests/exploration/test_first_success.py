"""The experiment on first successes: its worlds, its waits against plain sampling, and what its figure shows."""

import math

import numpy as np
import pytest
import torch
from panels import drawn, panel, smoke_tables

from experiments.exploration import _worlds, first_success
from experiments.exploration._climbing import Climber, climb
from experiments.exploration._curves import Curves
from experiments.exploration._exploring import Ascending, explore, mex
from figures.exploration import first_success as figure
from maxrl_lab import exact
from maxrl_lab.errors import InputError
from maxrl_lab.exploration import boxes
from maxrl_lab.exploration.mex import best_pass_rate
from maxrl_lab.randomness import generator


class TestWorlds:
    @pytest.mark.parametrize("text", ["maze 5:2:4", "maze 7:8:16"])
    def test_without_states_that_nothing_reaches_pass_rates_stay(self, text):
        world = _worlds.make(text, 3)
        mapped, tasks = (part.pass_rate(_worlds.uniform(part)) for part in (world.mapped, world.tasks))
        assert mapped.tolist() == pytest.approx(tasks.tolist(), rel=1e-12)
        assert world.tasks.shape[1] < world.mapped.shape[1]
        assert best_pass_rate(world.tasks).tolist() == [1.0] * 3

    @pytest.mark.parametrize("text", ["maze 7:4:8", "lake 4x4"])
    def test_what_is_known_beforehand_is_true(self, text):
        """The chances of every running state lie within the box; on the ice the intended move has 1/3, at least 0.3."""
        world = _worlds.make(text, 2)
        truth, box = boxes.in_columns(world.neighbours, world.mapped), world.neighbours
        inside = (truth >= box.low - 1e-12) & (truth <= box.high + 1e-12)
        assert bool(inside[world.mapped.active].all())
        assert truth[world.mapped.active].sum(-1).flatten().tolist() == pytest.approx(
            [1.0] * inside[world.mapped.active][..., 0].numel()
        )

    @pytest.mark.parametrize("text", ["maze 7", "maze 7:4:2", "maze 3:1:2", "lake 5x5", "sea", "maze 7:x:9"])
    def test_other_worlds_are_refused_in_one_line(self, text):
        with pytest.raises(InputError, match=r"a world is 'lake 4x4' or 'lake 8x8', or 'maze SIZE:MOVES:HORIZON'"):
            first_success.Settings(worlds=(text,))


class TestClimbing:
    def episodes(self, world, waits):
        """Rollouts until half of the time, of 300 runs of one maze: silent groups counted, or sampled one by one.

        A bonus too small to move anything makes a run sample its silent groups.
        """
        climber = Climber("maxrl", 4, 2.0, 0.0 if waits else 1e-12)
        assert climber.waits == waits
        tasks = world.tasks.select([0] * 300)
        stream = generator("episodes", int(waits))
        return climb(tasks, [climber] * 300, target=0.5, updates=2000, stream=stream)

    def test_counted_waits_have_the_law_of_sampled_ones(self):
        """Means of both within 5 standard errors of their difference: a false alarm below 1e-6."""
        world = _worlds.make("maze 5:2:4", 1)
        counted, sampled = (self.episodes(world, waits) for waits in (True, False))
        assert bool(counted.reached.all())
        assert bool(sampled.reached.all())
        for ours, theirs in ((counted.episodes, sampled.episodes), (counted.first_success, sampled.first_success)):
            error = math.sqrt(float(ours.var() + theirs.var()) / 300)
            assert abs(float(ours.mean() - theirs.mean())) < 5 * error
        p = float(world.tasks.pass_rate(_worlds.uniform(world.tasks)))
        assert float(counted.first_success.mean()) == pytest.approx(1 / p, abs=5 / p / math.sqrt(300))

    @pytest.mark.parametrize(
        ("estimator", "waits"), [("maxrl", True), ("grpo", True), ("maxrl_control_variate", False)]
    )
    def test_who_waits(self, estimator, waits):
        assert Climber(estimator, 8, 1.0).waits == waits

    @pytest.mark.parametrize("estimator", ["reinforce", "grpo", "maxrl", "maxrl_control_variate"])
    @pytest.mark.parametrize("rollouts", [4, 64])
    def test_the_only_success_of_a_group_pushes_alike(self, estimator, rollouts):
        climber = first_success.Settings().climber(estimator, rollouts)
        first = float(exact.coefficients(estimator, rollouts=rollouts)[0][1])
        assert climber.learning_rate * first / rollouts == pytest.approx(2.0)

    def test_a_run_that_is_given_up_is_not_reached(self):
        world = _worlds.make("maze 7:8:16", 2)
        result = climb(
            world.tasks, [Climber("maxrl", 4, 1e-9)] * 2, target=0.5, updates=3, stream=generator("given up")
        )
        assert result.reached.tolist() == [False, False]
        assert bool((result.episodes >= 12).all())


class TestExploring:
    def test_mex_reaches_the_goal_once_it_has_seen_it(self):
        """Where moves are certain the pass rate is 1 from the first success on."""
        world = _worlds.make("maze 7:4:8", 5)
        made = explore(
            world.tasks,
            boxes.anything(world.tasks),
            mex(math.inf),
            target=0.5,
            budget=200,
            growth=0.0,
            stream=generator("explore"),
        )
        result = made.result
        assert bool(result.reached.all())
        late = result.episodes > result.first_success
        assert not bool(late.any())
        for seed in range(5):
            if not math.isnan(float(result.first_success[seed])):
                assert bool(world.tasks.success[seed, made.states[seed, -1]])

    def test_the_true_table_scores_no_more_than_the_maximum(self):
        """With everything unknown the maximum is 1 and the truth scores its best pass rate, 1; ascent is near."""
        world = _worlds.make("maze 5:2:4", 2)
        experience = boxes.Experience(boxes.everywhere(world.tasks))
        explorer = Ascending(1.0, 40)
        explorer(world.tasks, experience, 0)
        truth = explorer.truth(world.tasks, experience, best_pass_rate(world.tasks))
        assert truth.tolist() == [1.0, 1.0]
        assert bool((explorer.objective > 0.95).all())
        assert bool((explorer.objective <= 1 + 1e-12).all())


def test_curves_hold_the_last_pass_rate_at_common_episodes():
    world = _worlds.make("maze 5:2:4", 1)
    curves = Curves("maze 5:2:4", world.tasks, spent=1.0)
    record = curves.recorder([{"method": "m", "rollouts": 4, "seed": 0}])
    for episodes, rate in ((0.0, 0.1), (4.0, 0.2), (40.0, 0.6)):
        record(torch.tensor([0]), torch.tensor([episodes]).double(), torch.tensor([rate], dtype=torch.float64))
    rows = {round(row["episodes"], 2): row["pass_rate"] for row in curves.rows()}
    assert rows[1.0] == 0.1
    assert rows[4.64] == 0.1
    assert rows[6.81] == 0.2
    assert max(rows) == pytest.approx(46.42, abs=0.01)
    assert rows[max(rows)] == 0.6


def test_the_interval_of_a_median_is_between_order_statistics():
    """Of 12 values the third smallest and largest cover the median with 1 - 2 P(Bin(12, 1/2) <= 2) = 96%."""
    values = np.array([3.0, 1, 2, 12, 11, 10, 4, 5, 6, 7, 8, np.inf])
    assert figure.median_interval(values) == (6.5, 3.0, 11.0)
    assert figure.median_interval(np.arange(5.0)) == (2.0, 0.0, 4.0)


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    return smoke_tables(first_success, tmp_path_factory.mktemp("first_success"))


class TestFigure:
    def test_panels(self, smoke):
        made = figure.plot(*smoke)
        assert len(drawn(made)) == 5
        assert "given" in made._suptitle.get_text()
        assert panel(made, "silence").get_ylabel() == "P(K = 0) = (1 − p)^16"

    def test_runs_that_gave_up_are_open_triangles(self, smoke):
        tables, settings = smoke
        rows = tables["reached"].copy()
        rows.loc[rows.method == "maxrl", "reached"] = False
        ax = panel(figure.plot({**tables, "reached": rows}, settings), "who needs")
        assert sum(line.get_marker() == "^" for line in ax.lines) == 2
        table = figure.summarise({**tables, "reached": rows}, settings)
        assert bool(np.isinf(table.loc["maxrl"].to_numpy(dtype=float)).all())

    def test_a_missing_table_is_named(self, smoke):
        tables, settings = smoke
        with pytest.raises(InputError, match="missing: bounds"):
            figure.plot({name: rows for name, rows in tables.items() if name != "bounds"}, settings)


def test_worlds_of_one_kind_alone_have_their_claims(tmp_path):
    """Without mazes nothing is said of them; a world that is shown need not be among the worlds."""
    from experiments.catalogue import EXPERIMENTS

    tables, settings = smoke_tables(first_success, tmp_path, worlds=("maze 5:2:4",), shown="maze 7:4:8", seeds=2)
    assert set(tables["reached"].world) == {"maze 5:2:4"}
    assert set(tables["curves"].world) == {"maze 7:4:8"}
    names = {claim.name for claim in EXPERIMENTS["first_success"].claims(tables, settings)}
    assert "gradients_need_one_over_p" not in names
    assert "certified_bounds_held" in names
