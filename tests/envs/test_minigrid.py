"""MiniGrid's levels as tables: side by side with MiniGrid itself, and a cache that is never trusted."""

import pickle
import zipfile
from importlib import metadata

import gymnasium
import numpy as np
import pytest
import torch

from envs import minigrid
from maxrl_lab.tabular import table_cache

FAMILIES = {
    "Empty": ["Empty-5x5", "Empty-6x6", "Empty-8x8", "Empty-16x16"],
    "Empty-Random": ["Empty-Random-5x5", "Empty-Random-6x6"],
    "FourRooms": ["FourRooms"],
    "SimpleCrossing": ["SimpleCrossingS9N1", "SimpleCrossingS9N2", "SimpleCrossingS9N3", "SimpleCrossingS11N5"],
    "LavaCrossing": ["LavaCrossingS9N1", "LavaCrossingS9N2", "LavaCrossingS9N3", "LavaCrossingS11N5"],
    "LavaGap": ["LavaGapS5", "LavaGapS6", "LavaGapS7"],
    "DoorKey": ["DoorKey-5x5", "DoorKey-6x6", "DoorKey-8x8"],
    "Unlock": ["Unlock"],
    "MultiRoom": ["MultiRoom-N2-S4"],
    "GoToDoor": ["GoToDoor-5x5", "GoToDoor-6x6", "GoToDoor-8x8"],
    "Fetch": ["Fetch-5x5-N2", "Fetch-6x6-N2", "Fetch-8x8-N3"],
}
WITH_FAILURES = {"LavaCrossing", "LavaGap", "GoToDoor", "Fetch"}
STEPS = 40


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    """Tables made once for all tests, in a folder that starts empty."""
    return tmp_path_factory.mktemp("tables")


def real_environment(level, view):
    env = gymnasium.make(minigrid.LEVELS[level], disable_env_checker=True)
    if view == "full":
        from minigrid.wrappers import FullyObsWrapper

        env = FullyObsWrapper(env)
    return env


def row_of(observation):
    """The documented layout, written down a second time: image, direction, 64 character codes of the mission."""
    codes = np.zeros(64)
    codes[: len(observation["mission"])] = [ord(character) for character in observation["mission"]]
    return np.concatenate([observation["image"].flatten(), [observation["direction"]], codes])


class Arrays:
    """One task as numpy arrays, quick to walk through."""

    def __init__(self, tasks, task):
        self.successors, self.start = tasks.successors[task].numpy(), int(tasks.start[task].argmax())
        self.success, self.failure = tasks.success[task].numpy(), tasks.failure[task].numpy()
        self.observed = tasks.features[tasks.observations[task]].numpy()
        self.nearest = tasks.distance[task][tasks.successors[task]].argmin(-1).numpy()


def replay(env, table, seed, random, purposeful):
    """Walk through MiniGrid and the table side by side; return how it ended and after how many steps.

    Actions are random, or if `purposeful` with probability 0.7 those that lead nearest to success.
    """
    observation, _ = env.reset(seed=seed)
    state = table.start
    assert np.array_equal(table.observed[state], row_of(observation))
    for step in range(1, STEPS + 1):
        action = table.nearest[state] if purposeful and random.random() < 0.7 else random.integers(7)
        observation, reward, terminated, _, _ = env.step(action)
        state = table.successors[state, action]
        assert np.array_equal(table.observed[state], row_of(observation))
        assert table.success[state] == (terminated and reward > 0)
        assert table.failure[state] == (terminated and reward == 0)
        if terminated:
            return ("success" if reward > 0 else "failure"), step
    return "timeout", STEPS


def check_family(family, sequences, cache, view="partial"):
    """Replay `sequences` sequences, half of them purposeful, spread over the levels and 2 seeds of a family."""
    random = np.random.default_rng(0)
    seen = {"success": 0, "failure": 0, "timeout": 0, "steps": 0}
    places = [(level, task) for level in FAMILIES[family] for task in range(2)]
    tables = {level: minigrid.tasks(level, [3, 4], view=view, cache=cache) for level in FAMILIES[family]}
    environments = {level: real_environment(level, view) for level in FAMILIES[family]}
    for place, (level, task) in enumerate(places):
        table = Arrays(tables[level], task)
        for attempt in range(len(range(place, sequences, len(places)))):
            end, steps = replay(environments[level], table, 3 + task, random, attempt % 2 == 0)
            seen[end] += 1
            seen["steps"] += steps
    assert seen["success"] + seen["failure"] + seen["timeout"] == sequences
    assert seen["success"] > 0
    assert (seen["failure"] > 0) == (family in WITH_FAILURES)
    # a random action ends the episode in GoToDoor (2 of 7 do) and, on the smallest grids, in Fetch
    assert seen["timeout"] > 0 or family in ("GoToDoor", "Fetch")
    return seen


class TestParity:
    def test_every_level_belongs_to_a_family(self):
        assert sorted(minigrid.LEVELS) == sorted(level for levels in FAMILIES.values() for level in levels)

    @pytest.mark.parametrize("family", FAMILIES)
    def test_the_table_is_the_environment(self, family, cache):
        check_family(family, 60, cache)

    @pytest.mark.parametrize("family", ["LavaGap", "Unlock", "GoToDoor"])
    def test_the_table_is_the_environment_in_full_view(self, family, cache):
        check_family(family, 40, cache, view="full")

    def test_a_wrong_table_is_noticed(self, cache):
        table = Arrays(minigrid.tasks("LavaGapS5", [3], cache=cache), 0)
        table.successors = table.successors[:, [1, 0, 2, 3, 4, 5, 6]]  # left and right exchanged
        env, random = real_environment("LavaGapS5", "partial"), np.random.default_rng(0)
        with pytest.raises(AssertionError):
            replay(env, table, 3, random, purposeful=True)

    @pytest.mark.slow
    @pytest.mark.parametrize("family", FAMILIES)
    def test_the_table_is_the_environment_10_000_times(self, family, cache):
        print(family, check_family(family, 10_000, cache))

    @pytest.mark.slow
    @pytest.mark.parametrize("family", FAMILIES)
    def test_the_table_is_the_environment_in_full_view_1000_times(self, family, cache):
        check_family(family, 1000, cache, view="full")

    def test_time_runs_out_as_in_minigrid(self, cache):
        # Turning left never ends an episode of this level, so that MiniGrid truncates it: 20 steps for each of 2 rooms.
        tasks = minigrid.tasks("MultiRoom-N2-S4", [0], cache=cache)
        assert tasks.horizon == 40
        env = real_environment("MultiRoom-N2-S4", "partial")
        env.reset(seed=0)
        truncated = [env.step(0)[3] for _ in range(tasks.horizon)]
        assert truncated == [False] * (tasks.horizon - 1) + [True]


class TestTables:
    def test_an_empty_room_by_hand(self, cache):
        # 3 x 3 cells inside, the goal in a corner: 8 other cells x 4 directions, and 2 directions to arrive from.
        # The shortest way: 2 steps right, a turn, 2 steps down.
        tasks = minigrid.tasks("Empty-5x5", [0], cache=cache)
        assert tasks.shape == (1, 34, 7)
        assert tasks.success.sum() == 2
        assert not tasks.failure.any()
        assert tasks.distance[tasks.start > 0].tolist() == [5]
        assert tasks.horizon == 100
        assert tasks.features.dtype == torch.uint8
        assert tasks.features.shape == (34, 7 * 7 * 3 + 1 + 64)

    def test_a_door_and_its_key_by_hand(self, cache):
        # DoorKey-5x5, seed 0: on the left 1 x 3 cells with agent and key, on the right 1 x 3 with the goal. Without
        # the door open: key on a cell of 3 and agent on another, 4 directions, or carried: 24 + 12 = 36 states at
        # least; all of them count 4 directions, so the number of running ones is a multiple of 4.
        tasks = minigrid.tasks("DoorKey-5x5", [0], cache=cache)
        running = int(tasks.active.sum())
        assert running > 36
        assert running % 4 == 0
        assert tasks.distance.isfinite().all()  # nothing here can be spoilt for good

    def test_seeds_are_tasks_in_the_order_given(self, cache):
        both, second = (minigrid.tasks("LavaGapS5", seeds, cache=cache) for seeds in ([5, 2], [2]))
        assert both.shape[0] == 2
        states = second.shape[1]
        assert torch.equal(both.successors[1, :states], second.successors[0])
        assert torch.equal(both.features[both.observations[1, :states]], second.features[second.observations[0]])

    def test_the_full_view_shows_more_than_the_partial_one(self, cache):
        # In a 14 x 14 room without marks many places look alike from within, none from above.
        partial = minigrid.tasks("Empty-16x16", [0], cache=cache)
        full = minigrid.tasks("Empty-16x16", [0], view="full", cache=cache)
        assert torch.equal(partial.successors, full.successors)
        assert len(partial.features) < len(full.features) == full.shape[1]

    def test_an_optimal_policy_always_succeeds_and_a_random_one_sometimes(self, cache):
        tasks = minigrid.tasks("LavaGapS5", [0, 1], horizon=12, cache=cache)
        nexts = tasks.distance.flatten()[tasks.next_states[..., 0]]
        best = torch.nn.functional.one_hot(nexts.argmin(-1), 7).double().log()
        assert tasks.pass_rate(best).tolist() == [1.0, 1.0]
        random = tasks.pass_rate(torch.full(tasks.shape, 1 / 7, dtype=torch.float64).log())
        assert ((random > 0) & (random < 0.1)).all()


class TestErrors:
    def test_an_unknown_level_lists_the_choices(self, refuses):
        with refuses(f"unknown level 'DoorKey-7x7'; choose one of: {', '.join(minigrid.LEVELS)}"):
            minigrid.tasks("DoorKey-7x7", [0])

    def test_an_unknown_view_lists_the_choices(self, refuses):
        with refuses("unknown view 'all'; choose one of: partial, full"):
            minigrid.tasks("Unlock", [0], view="all")

    def test_one_seed_as_a_number(self, cache, refuses):
        one, listed = (minigrid.tasks("LavaGapS5", seeds, cache=cache) for seeds in (5, [5]))
        assert torch.equal(one.successors, listed.successors)
        with refuses("a seed must be a whole number >= 0, got 5.0"):
            minigrid.tasks("LavaGapS5", 5.0, cache=cache)

    def test_no_seeds(self, refuses):
        with refuses("expected at least one seed, got none"):
            minigrid.tasks("Unlock", [])

    def test_a_negative_seed(self, refuses):
        with refuses("a seed must be a whole number >= 0, got -1"):
            minigrid.tasks("Unlock", [0, -1])

    def test_a_horizon_too_short(self, refuses, cache):
        message = "Empty-5x5 with seed 0: task 0 cannot be solved: it needs 5 steps, the horizon is 4"
        with refuses(message):
            minigrid.tasks("Empty-5x5", [0], horizon=4, cache=cache)

    def test_a_horizon_of_nothing(self, refuses, cache):
        with refuses("horizon must be a whole number >= 1, got 0"):
            minigrid.tasks("Empty-5x5", [0], horizon=0, cache=cache)

    def test_a_mission_too_long(self, refuses):
        mission = "x" * 65
        with refuses(f"the mission must be at most 64 ASCII characters, got '{mission}'"):
            minigrid.flatten({"image": np.zeros((7, 7, 3)), "direction": 0, "mission": mission})


def same(one, other):
    return (
        torch.equal(one.successors, other.successors)
        and torch.equal(one.success, other.success)
        and torch.equal(one.failure, other.failure)
        and torch.equal(one.features[one.observations], other.features[other.observations])
    )


def truncate(file, _other):
    file.write_bytes(file.read_bytes()[:-100])


def flip_a_byte(file, _other):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(bytes(content))


def replace_by_pickle(file, _other):
    file.write_bytes(pickle.dumps({"successors": 1}))


def replace_by_nothing(file, _other):
    file.write_bytes(b"")


def replace_by_another_seed(file, other):
    file.write_bytes(other.read_bytes())


def change_an_array(file, _other):
    """A whole archive whose checksum is not that of its arrays."""
    with np.load(file) as found:
        arrays = dict(found)
    arrays["successors"][0, 0] += 1
    np.savez(file, **arrays)


def forget_the_checksum(file, _other):
    with np.load(file) as found:
        arrays = dict(found)
    del arrays["checksum"]
    np.savez(file, **arrays)


def mean_nothing(file, _other):
    """A checksum that fits, of arrays that lead to states which do not exist."""
    with np.load(file) as found:
        arrays = dict(found)
    del arrays["checksum"]
    arrays["successors"][0, 0] = len(arrays["successors"])
    np.savez(file, checksum=table_cache._checksum(file.name, arrays), **arrays)


DAMAGES = [
    truncate,
    flip_a_byte,
    replace_by_pickle,
    replace_by_nothing,
    replace_by_another_seed,
    change_an_array,
    forget_the_checksum,
    mean_nothing,
]


class TestCache:
    def tasks(self, folder, seed=0, **options):
        return minigrid.tasks("LavaGapS5", [seed], cache=folder, **options)

    @pytest.fixture
    def explored(self, monkeypatch):
        """Counts the explorations."""
        count = []
        explore = minigrid.explore
        monkeypatch.setattr(minigrid, "explore", lambda *arguments: count.append(1) or explore(*arguments))
        return count

    def test_the_second_call_reads(self, tmp_path, explored):
        first = self.tasks(tmp_path)
        second = self.tasks(tmp_path, horizon=50)
        assert len(explored) == 1
        assert same(first, second)
        assert (first.horizon, second.horizon) == (100, 50)

    def test_what_is_read_is_what_was_explored_to_the_last_type(self, tmp_path):
        first, second = self.tasks(tmp_path), self.tasks(tmp_path)
        for name in ("successors", "start", "success", "failure", "observations", "features"):
            one, other = getattr(first, name), getattr(second, name)
            assert one.dtype == other.dtype
            assert torch.equal(one, other)

    def test_each_level_seed_and_view_has_a_file_named_with_the_version_and_the_code(self, tmp_path):
        self.tasks(tmp_path)
        self.tasks(tmp_path, view="full")
        self.tasks(tmp_path, seed=1)
        version = metadata.version("minigrid")
        names = ["LavaGapS5-seed0-full", "LavaGapS5-seed0-partial", "LavaGapS5-seed1-partial"]
        assert sorted(file.name for file in tmp_path.iterdir()) == [
            f"minigrid{version}-{name}-code{minigrid._code()}.npz" for name in names
        ]

    def test_edited_code_does_not_read_the_table_of_the_code_before(self, tmp_path, explored, monkeypatch):
        self.tasks(tmp_path)
        code = minigrid.fingerprint("envs.minigrid")
        assert {"envs/minigrid.py", "maxrl_lab/tabular/exploring.py"} <= code.keys()
        edited = code | {"maxrl_lab/tabular/exploring.py": "0" * 16}
        monkeypatch.setattr(minigrid, "fingerprint", lambda module: edited)
        self.tasks(tmp_path)
        assert len(explored) == 2
        assert len(list(tmp_path.iterdir())) == 2

    def test_files_hold_no_pickles(self, tmp_path):
        self.tasks(tmp_path)
        (file,) = tmp_path.iterdir()
        assert zipfile.is_zipfile(file)
        with np.load(file, allow_pickle=False) as found:
            assert sorted(found) == ["checksum", "features", "observations", "outcome", "successors"]
            assert all(found[name].dtype != object for name in found)

    @pytest.mark.parametrize("damage", DAMAGES)
    def test_a_damaged_file_is_rebuilt(self, tmp_path, explored, damage):
        good = self.tasks(tmp_path)
        (file,) = tmp_path.iterdir()
        content = file.read_bytes()
        self.tasks(tmp_path / "elsewhere", seed=1)
        (other,) = (tmp_path / "elsewhere").iterdir()
        damage(file, other)
        explored.clear()
        assert same(self.tasks(tmp_path), good)
        assert len(explored) == 1
        with np.load(file) as found, np.load(write(tmp_path / "good.npz", content)) as wanted:
            assert all(np.array_equal(found[name], wanted[name]) for name in wanted)

    def test_every_single_flipped_byte_is_found_or_does_not_matter(self, tmp_path):
        good = self.tasks(tmp_path)
        (file,) = tmp_path.iterdir()
        content = file.read_bytes()
        for place in range(0, len(content), 7):
            file.write_bytes(content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :])
            table = table_cache.read(file)
            assert table is None or same(table.tasks(100), good)

    @pytest.mark.parametrize("blocked", ["a file is in the way", "a file is the folder"])
    def test_a_folder_that_cannot_be_written_costs_a_warning(self, tmp_path, blocked):
        block = write(tmp_path / "block", b"")
        folder = block if blocked == "a file is the folder" else block / "folder"
        with pytest.warns(RuntimeWarning, match="the table is not kept for the next time"):
            tasks = self.tasks(folder)
        assert same(tasks, self.tasks(tmp_path / "good"))

    def test_the_default_folder(self, tmp_path, monkeypatch):
        monkeypatch.setenv("MAXRL_LAB_CACHE", str(tmp_path / "own"))
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        self.tasks(None)
        monkeypatch.delenv("MAXRL_LAB_CACHE")
        self.tasks(None)
        monkeypatch.delenv("XDG_CACHE_HOME")
        self.tasks(None)
        folders = sorted(str(file.parent.relative_to(tmp_path)) for file in tmp_path.rglob("*.npz"))
        assert folders == ["home/.cache/maxrl_lab", "own", "xdg/maxrl_lab"]


def write(path, content):
    path.write_bytes(content)
    return path


class TestImages:
    @pytest.mark.parametrize(("view", "size"), [("partial", 7), ("full", 5)])
    def test_planes_are_the_picture(self, cache, view, size):
        features = minigrid.tasks("DoorKey-5x5", [0], view=view, cache=cache).features
        planes = minigrid.images(features)
        assert planes.shape == (len(features), 21, size, size)
        for kind, part in zip(range(3), planes.split([11, 6, 4], dim=1), strict=True):
            assert (part.sum(1) == 1).all()
            wanted = features[:, : 3 * size * size].reshape(-1, size, size, 3)[..., kind]
            assert torch.equal(part.argmax(1), wanted.long())

    def test_rows_that_are_no_picture_are_refused(self, refuses):
        with refuses("expected rows of 3 size^2 + 65 numbers, got (2, 70)"):
            minigrid.images(torch.zeros(2, 70, dtype=torch.uint8))
        with refuses("expected rows of 3 size^2 + 65 numbers, got (2, 65)"):
            minigrid.images(torch.zeros(2, 65, dtype=torch.uint8))
