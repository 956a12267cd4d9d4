"""The navigation tasks: what a policy is fed in each state, and that its output lands on the right one."""

import dataclasses

import pytest
import torch
from small_worlds import enumerated_pass_rate

from envs import minigrid
from envs.gridworld import levels, tables
from experiments.navigation._shared import GridSettings, minigrid_world, seeds_tried
from maxrl_lab.policies.one_hot import OneHot
from maxrl_lab.policies.stack import Stack
from maxrl_lab.tabular.study import Split, pass_rates

SMALL = GridSettings(size=7, distances=(2, 5), levels=2, horizon=8, width=4)
TINY = GridSettings(layout="open", size=5, distances=(1, 2), levels=1, horizon=4, width=3)
HELD_OUT = 3
LEVELS = ("Fetch-5x5-N2", "Empty-Random-5x5")
GRID = {policy: dataclasses.replace(SMALL, policy=policy) for policy in ("convolutional", "perceptron")}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """MiniGrid's tables go to a folder of this test."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("MAXRL_LAB_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def worlds(cache):
    made = {policy: settings.world(held_out=HELD_OUT) for policy, settings in GRID.items()}
    made["minigrid"] = minigrid_world(LEVELS, 2, 3, horizon=9, policy="perceptron", width=6)
    return made


NAMES = (*GRID, "minigrid")


def made(settings, split):
    """The levels of a split of `worlds`."""
    return (
        settings.make_levels("train", settings.levels) if split == "train" else settings.make_levels("test", HELD_OUT)
    )


class TestSettings:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"policy": "mlp"}, "unknown policy 'mlp'; choose one of: convolutional, perceptron"),
            ({"layout": "maze"}, "unknown layout 'maze'; choose one of: open, obstacles, prim, four_rooms"),
            ({"distances": ()}, "distances needs at least one value, got none"),
            ({"distances": (2, 4, 2)}, "distances must be distinct, got 2 4 2"),
            ({"distances": (2, 0)}, "distances must be a whole number >= 1, got 0"),
            ({"distances": (2, 25)}, "distances must be within the horizon of 24 steps, got 25"),
            ({"horizon": 15}, "distances must be within the horizon of 15 steps, got 17"),
            ({"size": 4}, "size must be a whole number >= 5, got 4"),
            ({"size": 34}, "size must be at most 33, got 34"),
            ({"levels": 0}, "levels must be a whole number >= 1, got 0"),
            ({"levels_per_update": 0}, "levels_per_update must be a whole number >= 1, got 0"),
            ({"horizon": 2.5}, "horizon must be a whole number >= 1, got 2.5"),
            ({"width": 0}, "width must be a whole number >= 1, got 0"),
        ],
    )
    def test_wrong_ones_are_refused(self, refuses, changes, message):
        with refuses(message):
            GridSettings(**changes)

    def test_distance_may_reach_the_horizon(self):
        assert GridSettings(distances=(24,)).horizon == 24

    def test_an_even_maze_is_refused_when_levels_are_made(self, refuses):
        settings = dataclasses.replace(SMALL, size=8)
        with refuses("a Prim maze needs an odd size, got 8"):
            settings.make_levels("train", 1)


class TestLevels:
    def test_counts_and_order(self):
        assert [level.distance for level in SMALL.make_levels("train", 2)] == [2, 2, 5, 5]
        assert [level.distance for level in SMALL.make_levels("test", 3)] == [2, 2, 2, 5, 5, 5]

    def test_every_seed_has_levels_of_its_own(self):
        made = [{level.text() for level in SMALL.make_levels("train", 6, seed)} for seed in (0, 1)]
        assert made[0] == {level.text() for level in SMALL.make_levels("train", 6)}
        assert not made[0] & made[1]
        world = SMALL.world(1, levels=3, held_out=2)
        assert torch.equal(world.train.inputs, tables.pictures(SMALL.make_levels("train", 3, 1)))
        assert torch.equal(world.splits["held_out"].inputs, tables.pictures(SMALL.make_levels("test", 2, 1)))
        assert (world.seed, world.tasks_per_update) == (1, SMALL.levels_per_update)

    @pytest.mark.parametrize("layout", levels.LAYOUTS)
    def test_no_level_is_trained_on_and_held_out(self, layout):
        settings = dataclasses.replace(SMALL, layout=layout, distances=(2, 4))
        train, held_out = ({level.text() for level in settings.make_levels(split, 6)} for split in ("train", "test"))
        assert (len(train), len(held_out)) == (12, 12)
        assert not train & held_out

    @pytest.mark.parametrize("policy", GRID)
    def test_difficulty_is_the_way_through_the_table(self, worlds, policy):
        # the tables know distances by value iteration, the labels by breadth-first search
        for tasks in worlds[policy].splits.values():
            starts = tasks.tables.start.argmax(1, keepdim=True)
            assert tasks.tables.distance.gather(1, starts).flatten().tolist() == [float(d) for d in tasks.difficulty]

    def test_held_out_levels_only_where_asked_for(self):
        assert list(SMALL.world().splits) == ["train"]
        world = SMALL.world(held_out=1)
        assert world.train is world.splits["train"]
        assert world.splits["held_out"].difficulty == ("2", "5")

    def test_splits_are_the_levels_made(self, worlds):
        world = worlds["convolutional"]
        assert list(world.splits) == ["train", "held_out"]
        for split, tasks in world.splits.items():
            assert torch.equal(tasks.inputs, tables.pictures(made(SMALL, split)))


class TestWhatAPolicySees:
    def test_convolutional_each_cell_has_the_output_of_its_place(self, worlds):
        world = worlds["convolutional"]
        stack = world.stack([3, 4])
        for split, tasks in world.splits.items():
            found = stack.log_policy(tasks.inputs, tasks.rows)
            for task, level in enumerate(made(GRID["convolutional"], split)):
                for run, network in enumerate(stack.networks):
                    logits = network(tables.pictures([level])).view(7, 7, 4)
                    for row in range(7):
                        for col in range(7):
                            wanted = logits[row, col].log_softmax(-1)
                            assert torch.allclose(found[run, 0, task, row * 7 + col], wanted, atol=1e-5)

    def test_perceptron_each_cell_has_the_output_of_its_surroundings(self, worlds):
        world = worlds["perceptron"]
        stack = world.stack([3])
        for split, tasks in world.splits.items():
            found = stack.log_policy(tasks.inputs, tasks.rows)[0, 0]
            for task, level in enumerate(made(GRID["perceptron"], split)):
                free = ~(level.walls | level.pits)
                free[level.goal] = False
                for row, col in zip(*free.nonzero(), strict=True):
                    seen = torch.tensor(surroundings(level, int(row), int(col)))
                    wanted = stack.networks[0](seen).log_softmax(-1)
                    assert torch.allclose(found[task, row * 7 + col], wanted, atol=1e-5)

    def test_minigrid_each_state_has_the_output_of_its_observation(self, worlds, cache):
        world = worlds["minigrid"]
        stack = world.stack([3])
        for taken, tasks in ((slice(0, 2), world.train), (slice(2, 5), world.splits["held_out"])):
            found = stack.log_policy(tasks.inputs, tasks.rows)[0, 0]
            encoder = OneHot(training_features())
            seeds = [(name, seed) for name in LEVELS for seed in distinct_seeds(name, 5, 9)[taken]]
            for task, (name, seed) in enumerate(seeds):
                alone = minigrid.tasks(name, [seed], horizon=9)
                features, rows = alone.observed()
                wanted = stack.networks[0](encoder(features[rows[0]])).log_softmax(-1)
                active = alone.active[0]
                assert torch.equal(tasks.tables.active[task, : len(active)], active)
                assert torch.allclose(found[task, : len(active)][active], wanted[active], atol=1e-5)

    @pytest.mark.parametrize("name", NAMES)
    def test_policies_are_drawn_by_their_seed(self, worlds, name):
        world = worlds[name]
        first, second, again = pass_rates(world.stack([1, 2, 1]), world.train)
        assert torch.allclose(first, again, rtol=1e-5)
        assert not torch.allclose(first, second, rtol=1e-2)
        (alone,) = pass_rates(world.stack([2]), world.train)
        assert torch.allclose(alone, second, rtol=1e-5)


def surroundings(level, row, col):
    """Walls, pits and goal of the 5 x 5 cells around, outside being wall, then the way to the goal in units of 7."""
    near = [(row + down, col + right) for down in range(-2, 3) for right in range(-2, 3)]
    inside = [0 <= r < 7 and 0 <= c < 7 for r, c in near]
    walls = [float(not ok or level.walls[cell]) for ok, cell in zip(inside, near, strict=True)]
    pits = [float(ok and level.pits[cell]) for ok, cell in zip(inside, near, strict=True)]
    goal = [float(cell == level.goal) for cell in near]
    return [*walls, *pits, *goal, (level.goal[0] - row) / 7, (level.goal[1] - col) / 7]


def training_features():
    seen = [minigrid.tasks(name, distinct_seeds(name, 5, 9)[:2], horizon=9).observed()[0] for name in LEVELS]
    return torch.cat(seen)


def distinct_seeds(name, count, horizon, seed=0):
    """MiniGrid's seeds of the first `count` distinct levels, told apart by what is in them."""
    contents = {}
    for number in seeds_tried(name, count, seed):
        contents.setdefault(content_of(minigrid.tasks(name, [number], horizon=horizon), 0), number)
    return list(contents.values())[:count]


def content_of(tasks, task):
    """What happens in a level, and what is seen there."""
    features, rows = tasks.observed()
    active = tasks.active[task]
    return str((tasks.successors[task][active].tolist(), features[rows[task]][active].tolist()))


class TestMinigrid:
    def test_a_task_per_name_and_seed(self, worlds):
        world = worlds["minigrid"]
        assert world.train.difficulty == ("Fetch-5x5-N2",) * 2 + ("Empty-Random-5x5",) * 2
        assert world.splits["held_out"].difficulty == ("Fetch-5x5-N2",) * 3 + ("Empty-Random-5x5",) * 3
        assert world.train.tables.shape[0] == 4
        assert world.splits["held_out"].tables.shape[0] == 6

    def test_held_out_observations_are_encoded_in_the_training_columns(self, worlds, cache):
        # by hand: an input per value that a varying column takes in training, in order
        training = training_features().long()
        pairs = [
            (column, value)
            for column in range(training.shape[1])
            if len(values := training[:, column].unique().tolist()) > 1
            for value in values
        ]
        held_out = worlds["minigrid"].splits["held_out"]
        assert worlds["minigrid"].train.inputs.shape[1] == held_out.inputs.shape[1] == len(pairs)
        features, rows = held_out.tables.observed()
        assert torch.equal(rows, held_out.rows)
        for place, (column, value) in enumerate(pairs):
            assert torch.equal(held_out.inputs[:, place], (features[:, column] == value).float())

    @pytest.mark.parametrize("seed", [0, 1])
    @pytest.mark.parametrize(
        ("name", "counts"),
        # LavaGapS6 has many seeds with the same gap; LavaGapS5 has three levels
        [("LavaGapS6", (3, 2)), ("LavaGapS5", (1, 1)), ("Empty-Random-5x5", (4, 2)), ("DoorKey-5x5", (2, 2))],
    )
    def test_levels_are_distinct_by_what_is_in_them(self, cache, name, counts, seed):
        world = minigrid_world((name,), *counts, horizon=30, policy="perceptron", width=8, seed=seed)
        assert [tasks.tables.shape[0] for tasks in world.splits.values()] == list(counts)
        found = [
            content_of(tasks.tables, task)
            for tasks, count in zip(world.splits.values(), counts, strict=True)
            for task in range(count)
        ]
        assert len(set(found)) == sum(counts)
        seeds = distinct_seeds(name, sum(counts), 30, seed)
        assert found == [content_of(minigrid.tasks(name, [number], horizon=30), 0) for number in seeds]
        assert any(cache.iterdir())

    def test_every_seed_has_levels_of_its_own(self):
        orders = [seeds_tried("DoorKey-5x5", 12, seed) for seed in range(5)]
        assert {tuple(sorted(order)) for order in orders} == {tuple(range(60))}
        assert len({tuple(order[:12]) for order in orders}) == 5

    @pytest.mark.parametrize(
        ("name", "counts", "message"),
        [
            ("Empty-5x5", (1, 1), "expected 2, got 1 in 10 seeds"),
            ("LavaGapS5", (2, 2), "expected 4, got 3 in 20 seeds"),
        ],
    )
    def test_too_few_distinct_levels(self, refuses, cache, name, counts, message):
        with refuses(f"{name} has too few distinct levels: {message}"):
            minigrid_world(("Fetch-5x5-N2", name), *counts, horizon=12, policy="perceptron", width=8)

    def test_hidden_layers(self, worlds):
        sizes = [tuple(each.weight.shape) for each in worlds["minigrid"].network() if hasattr(each, "weight")]
        assert sizes == [(6, worlds["minigrid"].train.inputs.shape[1]), (6, 6), (7, 6)]

    def test_convolutional_policies_see_the_view(self, cache):
        world = minigrid_world(LEVELS, 1, 1, horizon=12, policy="convolutional", width=8)
        for tasks in world.splits.values():
            assert tasks.inputs.shape[1:] == (21, 7, 7)
            stack = world.stack([3])
            whole = stack.networks[0](tasks.inputs).log_softmax(-1)[tasks.rows]
            assert torch.allclose(stack.log_policy(tasks.inputs, tasks.rows)[0, 0], whole, atol=1e-5)


class TestOnly:
    @pytest.mark.parametrize("name", NAMES)
    def test_one_task_has_the_policy_it_has_among_all(self, worlds, name):
        world = worlds[name]
        stack = world.stack([0, 1])
        for tasks in world.splits.values():
            whole, rates = stack.log_policy(tasks.inputs, tasks.rows), pass_rates(stack, tasks)
            for task in range(len(tasks.difficulty)):
                one = tasks.select([task])
                assert one.difficulty == (tasks.difficulty[task],)
                assert len(one.inputs) <= len(tasks.inputs)
                found = stack.log_policy(one.inputs, one.rows)
                assert torch.allclose(found, whole[:, :, task : task + 1], atol=1e-5)
                assert torch.allclose(pass_rates(stack, one), rates[:, task : task + 1], rtol=1e-4)

    def test_rows_are_renumbered_by_hand(self):
        # Two rows an input: task 1 uses outputs 6, 3, 7, of inputs 3, 1, 3; input 1 becomes 0, input 3 becomes 1.
        mazes = tables.tasks(SMALL.make_levels("train", 2), horizon=8, radius=None)
        inputs = torch.arange(4.0)[:, None]
        tasks = Split(mazes, inputs, torch.tensor([[0, 1, 2], [6, 3, 7]]), ("a", "b"), rows_per_input=2)
        one = tasks.select([1])
        assert one.inputs.tolist() == [[1.0], [3.0]]
        assert one.rows.tolist() == [[2, 1, 3]]
        assert one.difficulty == ("b",)
        assert one.rows_per_input == 2

    def test_only_its_own_picture_is_kept(self, worlds):
        train = worlds["convolutional"].train
        one = train.select([2])
        assert torch.equal(one.inputs, train.inputs[2:3])
        assert one.rows.tolist() == [list(range(49))]


class TestPassRates:
    @pytest.mark.parametrize("policy", ["convolutional", "perceptron"])
    def test_against_every_path(self, policy):
        world = dataclasses.replace(TINY, policy=policy).world(held_out=1)
        stack = world.stack([0, 1])
        for tasks in world.splits.values():
            log_policy = stack.log_policy(tasks.inputs, tasks.rows).detach().double()
            wanted = torch.stack([enumerated_pass_rate(tasks.tables, each) for each in log_policy])
            found = pass_rates(stack, tasks)
            assert found.dtype == torch.float64
            assert not found.requires_grad
            assert torch.allclose(found, wanted, rtol=1e-12)

    def test_a_uniform_policy_by_hand(self):
        # Open room, goal one step away: 1/4 at the first step; all else comes from the enumeration above.
        world = dataclasses.replace(TINY, distances=(1,), horizon=1).world()
        stack = world.stack([0])
        with torch.no_grad():
            for parameter in stack.parameters():
                parameter.zero_()
        assert pass_rates(stack, world.train).item() == pytest.approx(0.25, rel=1e-6)  # a softmax in single precision

    def test_moving_to_a_device_keeps_everything(self, worlds):
        world = worlds["perceptron"].to(torch.device("cpu"))
        stack = world.stack([0])
        assert isinstance(stack, Stack)
        assert torch.equal(pass_rates(stack, world.train), pass_rates(stack, worlds["perceptron"].train))
        assert world.train.difficulty == worlds["perceptron"].train.difficulty
