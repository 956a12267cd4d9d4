"""Mazes in tokens: prompts, shortest ways by scipy, and the verifier against a walk step by step."""

import itertools
import re
import time
from collections import Counter

import numpy as np
import pytest
import torch
from scipy.sparse.csgraph import connected_components
from small_mazes import RING, exact_distribution, graph, opened, p_value, steps_to, walls_of

import envs.maze
from envs.gridworld.mazes import distances, prim_mazes
from envs.maze import Maze, render
from maxrl_lab.tokens.decoding import EOS, PAD

SIZES = [5, 7, 11, 17, 33]

# One way from the corner above to the corner below, around: 4 down, 2 right, 2 up, 2 right, 2 down.
BEND = (
    np.array([list(line) for line in ("#######", "#...#.#", "#.###.#", "#.#...#", "#.#.#.#", "#...#.#", "#######")])
    == "#"
)
BEND_WAY = "DOWN DOWN DOWN DOWN RIGHT RIGHT UP UP RIGHT RIGHT DOWN DOWN"


def steps_to_goal(walls):
    """Number of moves to the goal from every cell, by scipy."""
    return steps_to(~walls, (len(walls) - 2, len(walls) - 2))


def walk(walls, words):
    """Whether the words, <eos> included, are a way to the goal, walked cell by cell."""
    row = col = 1
    for place, word in enumerate(words):
        if word == "DONE":
            return words[place + 1 :] == ["<eos>"] and row == col == len(walls) - 2
        if word not in ("UP", "DOWN", "LEFT", "RIGHT"):
            return False
        row += (word == "DOWN") - (word == "UP")
        col += (word == "RIGHT") - (word == "LEFT")
        if walls[row, col]:
            return False
    return False


def written(task, rows):
    """Answers in words, B lists of N, as tensors."""
    lengths = torch.tensor([[len(answer.split()) for answer in row] for row in rows])
    answers = torch.full((*lengths.shape, int(lengths.max())), PAD)
    for b, row in enumerate(rows):
        for n, answer in enumerate(row):
            answers[b, n, : lengths[b, n]] = torch.tensor(task.vocabulary.encode(answer.split()))
    return answers, lengths


def ended_at_eos(answers):
    """Lengths (B, N) of raw samples: up to the first <eos>, or all."""
    is_end = (answers == EOS).long()
    return torch.where(is_end.any(2), is_end.argmax(2) + 1, answers.shape[2])


class TestStreams:
    def test_the_same_seed_gives_the_same_mazes_and_another_gives_others(self):
        first, again, other = (Maze(9).problems(20, seed=seed).content for seed in (3, 3, 4))
        np.testing.assert_array_equal(first, again)
        assert not {walls.tobytes() for walls in first} & {walls.tobytes() for walls in other}

    def test_no_maze_is_in_both_splits_and_192_are_in_one(self):
        splits = {
            split: {
                walls.tobytes() for seed in range(3) for walls in Maze(7).problems(2000, split=split, seed=seed).content
            }
            for split in ("train", "test")
        }
        assert not splits["train"] & splits["test"]
        assert len(splits["train"] | splits["test"]) == 192
        assert splits["test"]

    def test_distinct_mazes_run_out(self):
        with pytest.raises(ValueError, match=r"\Afound \d of 5 distinct train problems of maze 5 15\Z"):
            Maze(5).problems(5, distinct=True)
        found = Maze(9).problems(300, split="test", distinct=True).content
        assert len({walls.tobytes() for walls in found}) == 300


class TestPrompts:
    def test_by_hand(self):
        prompts, lengths = Maze(5).encode(RING[None])
        assert lengths.tolist() == [34]
        assert Maze(5).vocabulary.decode(prompts[0]) == [
            *["<bos>", "GRID_START"],
            *["WALL", "WALL", "WALL", "WALL", "WALL", "NEWLINE"],
            *["WALL", "START", "PATH", "PATH", "WALL", "NEWLINE"],
            *["WALL", "PATH", "WALL", "PATH", "WALL", "NEWLINE"],
            *["WALL", "PATH", "PATH", "GOAL", "WALL", "NEWLINE"],
            *["WALL", "WALL", "WALL", "WALL", "WALL", "NEWLINE"],
            *["GRID_END", "PATH_START"],
        ]

    @pytest.mark.parametrize("size", SIZES)
    def test_show_every_cell(self, size):
        task = Maze(size)
        problems = task.problems(3)
        assert problems.prompts.shape == (3, task.prompt_length)
        assert problems.prompts.dtype == torch.long
        for tokens, walls in zip(problems.prompts, problems.content, strict=True):
            words = task.vocabulary.decode(tokens)
            grid = np.array(words[2:-2]).reshape(size, size + 1)
            assert (grid[:, -1] == "NEWLINE").all()
            assert Counter(words)["NEWLINE"] == size
            np.testing.assert_array_equal(grid[:, :-1] == "WALL", walls)
            assert np.argwhere(grid == "START").tolist() == [[1, 1]]
            assert np.argwhere(grid == "GOAL").tolist() == [[size - 2, size - 2]]

    def test_the_papers_vocabulary_and_lengths(self):
        task = Maze()
        assert task.size == 17
        assert len(task.vocabulary) == 32
        assert task.answer_length == 180
        assert task.prompt_length == 310 <= 320


class TestAnswerLength:
    @pytest.mark.parametrize(("size", "tokens"), [(5, 15), (7, 30), (9, 50), (17, 180), (33, 680)])
    def test_by_default(self, size, tokens):
        assert Maze(size).answer_length == tokens
        # A way through all ((size - 1) / 2)² odd cells, two moves apart, and DONE <eos>.
        assert tokens >= 2 * (((size - 1) // 2) ** 2 - 1) + 2

    def test_only_mazes_that_fit_are_sampled(self):
        every = distances(~prim_mazes(11, 400, np.random.default_rng(0)), (9, 9))[:, 1, 1] + 2
        assert set(every) > {18, 22, 26}
        for tokens in (18, 21, 22, 23):
            content = Maze(11, tokens).problems(200).content
            found = {int(steps_to_goal(walls)[1, 1]) + 2 for walls in content}
            assert found == {length for length in (18, 22) if length <= tokens}

    def test_those_that_fit_keep_their_distribution(self):
        # Of the 192 mazes of 7 x 7, those with a way of 8 moves; false alarm 1e-6.
        exact = exact_distribution(3)
        fits = {tree: p for tree, p in exact.items() if steps_to_goal(walls_of(tree, 7))[1, 1] == 8}
        assert 0 < len(fits) < 192
        drawn = Counter(opened(walls) for walls in Maze(7, 10).sample(20_000, np.random.default_rng(0)))
        assert set(drawn) <= set(fits)
        assert p_value(drawn, {tree: p / sum(fits.values()) for tree, p in fits.items()}) > 1e-6

    def test_solutions_that_do_not_fit_are_refused(self, refuses):
        with refuses("answers of maze have at most 13 tokens, got a solution of 14"):
            Maze(7, 13).solutions(BEND[None], np.random.default_rng(0))


class TestSolutions:
    @pytest.mark.parametrize("size", SIZES)
    def test_are_right_and_shortest(self, size):
        task = Maze(size)
        content = task.problems(60).content
        answers, lengths = task.solutions(content, np.random.default_rng(0))
        assert answers.dtype == lengths.dtype == torch.long
        assert answers.shape == (60, lengths.max())
        assert (lengths - 2).tolist() == [steps_to_goal(walls)[1, 1] for walls in content]
        assert task.verify(content, answers[:, None], lengths[:, None]).all()
        for walls, tokens, length in zip(content, answers, lengths, strict=True):
            assert walk(walls, task.vocabulary.decode(tokens[:length]))
            assert (tokens[length:] == PAD).all()

    def test_by_hand(self):
        answers, lengths = Maze(7).solutions(BEND[None], np.random.default_rng(0))
        assert Maze(7).vocabulary.decode(answers[0]) == [*BEND_WAY.split(), "DONE", "<eos>"]
        assert lengths.tolist() == [14]

    def test_a_maze_without_a_way_has_none(self, refuses):
        sealed = RING.copy()
        sealed[2, 3] = sealed[3, 2] = True
        with refuses("expected a way from start to goal in every maze, got one without"):
            Maze(5).solutions(np.stack([RING, sealed]), np.random.default_rng(0))


class TestVerify:
    @pytest.mark.parametrize(
        ("answer", "is_right"),
        [
            ("RIGHT RIGHT DOWN DOWN DONE <eos>", True),
            ("DOWN DOWN RIGHT RIGHT DONE <eos>", True),
            ("RIGHT LEFT DOWN DOWN RIGHT RIGHT DONE <eos>", True),  # a cell twice
            ("RIGHT RIGHT DOWN DOWN LEFT RIGHT DONE <eos>", True),  # over the goal and back
            ("RIGHT RIGHT DOWN DOWN LEFT LEFT UP UP RIGHT RIGHT DOWN DOWN DONE <eos>", True),  # once around
            ("RIGHT RIGHT DOWN DOWN LEFT DONE <eos>", False),  # over the goal and away
            ("RIGHT RIGHT DOWN DONE <eos>", False),  # not far enough
            ("RIGHT DOWN DOWN RIGHT DONE <eos>", False),  # through the middle wall
            ("UP RIGHT RIGHT DOWN DOWN DONE <eos>", False),  # against the outer wall, then right
            ("UP DOWN RIGHT RIGHT DOWN DOWN DONE <eos>", False),  # into the outer wall and out of it
            ("UP UP RIGHT RIGHT DOWN DOWN DOWN DOWN DONE <eos>", False),  # over the edge and back
            ("LEFT LEFT RIGHT RIGHT RIGHT RIGHT DOWN DOWN DONE <eos>", False),
            ("RIGHT RIGHT DOWN DOWN <eos>", False),  # no DONE
            ("RIGHT RIGHT DOWN DOWN DONE", False),  # no <eos>: cut off
            ("RIGHT RIGHT DOWN DOWN", False),
            ("RIGHT RIGHT DOWN DOWN DONE DONE <eos>", False),  # something after DONE
            ("RIGHT RIGHT DOWN DOWN DONE <pad> <eos>", False),
            ("RIGHT RIGHT DOWN DOWN DONE RIGHT <eos>", False),
            ("DONE RIGHT RIGHT DOWN DOWN DONE <eos>", False),  # something before
            ("RIGHT RIGHT DONE DOWN DOWN DONE <eos>", False),
            ("RIGHT <pad> RIGHT DOWN DOWN DONE <eos>", False),
            ("RIGHT WALL RIGHT DOWN DOWN DONE <eos>", False),
            ("<bos> RIGHT RIGHT DOWN DOWN DONE <eos>", False),
            ("RIGHT <unused_0> RIGHT DOWN DOWN DONE <eos>", False),
            ("DONE <eos>", False),
            ("<eos>", False),
            ("DONE", False),
        ],
    )
    def test_by_hand_on_a_ring(self, answer, is_right):
        assert walk(RING, answer.split()) == is_right
        answers, lengths = written(Maze(5), [[answer]])
        assert Maze(5).verify(RING[None], answers, lengths).tolist() == [[is_right]]

    @pytest.mark.parametrize("rubbish", [PAD, EOS, "DONE", "RIGHT", "WALL"])
    def test_nothing_counts_after_the_end(self, rubbish):
        task = Maze(5)
        answers, lengths = written(task, [["RIGHT RIGHT DOWN DOWN DONE <eos>", "RIGHT RIGHT DONE <eos>", "DONE <eos>"]])
        token = rubbish if isinstance(rubbish, int) else task.vocabulary.ids[rubbish]
        longer = torch.full((1, 3, 15), token)
        for n, length in enumerate(lengths[0]):
            longer[0, n, :length] = answers[0, n, :length]
        assert task.verify(RING[None], longer, lengths).tolist() == [[True, False, False]]

    @pytest.mark.parametrize("walls", [RING, *prim_mazes(5, 2, np.random.default_rng(0))])
    def test_every_answer_of_six_tokens(self, walls):
        task = Maze(5)
        choices = ["UP", "DOWN", "LEFT", "RIGHT", "DONE", "<eos>"]
        answers = torch.tensor(list(itertools.product(task.vocabulary.encode(choices), repeat=6)))[None]
        lengths = ended_at_eos(answers)
        found = task.verify(walls[None], answers, lengths)
        expected = [
            walk(walls, task.vocabulary.decode(ids[:length]))
            for ids, length in zip(answers[0], lengths[0].tolist(), strict=True)
        ]
        assert found[0].tolist() == expected
        assert 1 <= sum(expected) <= 2

    @pytest.mark.parametrize("size", [5, 9, 17])
    def test_against_a_walk_on_answers_that_are_nearly_right(self, size):
        # Shortest ways, in which a place in four of the answers gets another token, or two moves go back and forth.
        task, random = Maze(size), np.random.default_rng(size)
        content = task.problems(8).content
        ways, lengths = task.solutions(content, random)
        rows = []
        for tokens, length in zip(ways, lengths, strict=True):
            row = []
            for _ in range(60):
                words = task.vocabulary.decode(tokens[:length])
                place = int(random.integers(len(words)))
                if random.random() < 0.25:
                    words[place] = task.vocabulary.words[random.integers(len(task.vocabulary))]
                elif place < length - 1:
                    words[place:place] = [("UP", "DOWN"), ("DOWN", "UP"), ("LEFT", "RIGHT"), ("RIGHT", "LEFT")][
                        random.integers(4)
                    ]
                row.append(" ".join(words[: words.index("<eos>") + 1] if "<eos>" in words else words))
            rows.append(row)
        found = task.verify(content, *written(task, rows))
        expected = [[walk(walls, answer.split()) for answer in row] for walls, row in zip(content, rows, strict=True)]
        assert found.tolist() == expected
        assert 0.2 < np.mean(expected) < 0.8

    def test_no_answers_are_no_verdicts(self):
        empty = torch.zeros(1, 0, 6, dtype=torch.long)
        assert Maze(5).verify(RING[None], empty, empty[..., 0]).shape == (1, 0)

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
    def test_on_a_gpu(self):
        task = Maze(9)
        content = task.problems(20).content
        answers, lengths = (each[:, None].cuda() for each in task.solutions(content, np.random.default_rng(0)))
        found = task.verify(content, answers, lengths)
        assert found.device == answers.device
        assert found.all()


class TestDecoded:
    def test_is_the_path(self):
        task = Maze(5)
        rows = [["RIGHT RIGHT DOWN DOWN DONE <eos>", "RIGHT DONE <eos>", "RIGHT RIGHT"]]
        expected = [[("RIGHT", "RIGHT", "DOWN", "DOWN", "DONE"), ("RIGHT", "DONE"), None]]
        assert task.decoded(RING[None], *written(task, rows)) == expected


class TestRender:
    def test_the_docstring(self):
        picture = "\n".join(re.findall(r"^    ([#.SGo]+)$", envs.maze.__doc__, re.MULTILINE))
        walls = np.array([list(line) for line in picture.splitlines()]) == "#"
        assert connected_components(graph(~walls), directed=False)[0] == walls.sum() + 1
        assert graph(~walls).nnz == (~walls).sum() - 1
        answers, _ = Maze(7).solutions(walls[None], np.random.default_rng(0))
        assert render(walls, answers[0]) == render(walls, answers[0].tolist()) == picture

    @pytest.mark.parametrize(
        ("answer", "picture"),
        [
            ("", "#####/#S..#/#.#.#/#..G#/#####"),
            ("RIGHT RIGHT", "#####/#Soo#/#.#.#/#..G#/#####"),
            ("DOWN DOWN DONE RIGHT", "#####/#S..#/#o#.#/#o.G#/#####"),
            ("RIGHT DOWN DOWN", "#####/#So.#/#.X.#/#..G#/#####"),
            ("UP UP UP", "#X###/#S..#/#.#.#/#..G#/#####"),
            ("RIGHT RIGHT DOWN DOWN LEFT DONE <eos>", "#####/#Soo#/#.#o#/#.oG#/#####"),
        ],
    )
    def test_by_hand(self, answer, picture):
        assert render(RING, answer.split()) == picture.replace("/", "\n")

    def test_leaves_the_maze_alone(self):
        before = RING.copy()
        render(RING, ["UP"])
        np.testing.assert_array_equal(RING, before)


class TestRefused:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"size": 8}, "a Prim maze needs an odd size, got 8"),
            ({"size": 3}, "size must lie in 5..33, got 3"),
            ({"size": 4}, "size must lie in 5..33, got 4"),
            ({"size": 35}, "size must lie in 5..33, got 35"),
            ({"size": 9.0}, "size must be a whole number >= 1, got 9.0"),
            ({"size": 9, "answer_length": 0}, "answer_length must be a whole number >= 1, got 0"),
            ({"size": 9, "answer_length": 13}, "the shortest way of 9 x 9 mazes takes 14 tokens, got 13"),
        ],
    )
    def test_settings(self, options, message, refuses):
        with refuses(message):
            Maze(**options)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (np.ones((1, 7, 7), bool), "expected walls (1, 5, 5) bool, got (1, 7, 7) bool"),
            (np.ones((5, 5), bool), "expected walls (5, 5, 5) bool, got (5, 5) bool"),
            (np.ones((1, 5, 5), int), "expected walls (1, 5, 5) bool, got (1, 5, 5) int64"),
            (np.zeros((1, 5, 5), bool), "a maze has walls all around, got one that is open"),
        ],
    )
    def test_content(self, content, message, refuses):
        task, random = Maze(5), np.random.default_rng(0)
        answers, lengths = written(task, [["DONE <eos>"]] * len(content))
        for call in (
            lambda: task.encode(content),
            lambda: task.solutions(content, random),
            lambda: task.verify(content, answers, lengths),
        ):
            with refuses(message):
                call()

    def test_answers(self, refuses):
        answers, lengths = torch.full((1, 2, 16), 3), torch.full((1, 2), 16)
        with refuses("answers of maze have at most 15 tokens, got 16"):
            Maze(5).verify(RING[None], answers, lengths)


@pytest.mark.slow
def test_100_000_mazes_are_made_and_solved_and_verified_within_a_minute():
    task, start = Maze(17), time.perf_counter()
    problems = task.problems(100_000)
    answers, lengths = task.solutions(problems.content, np.random.default_rng(0))
    assert task.verify(problems.content, answers[:, None], lengths[:, None]).all()
    assert time.perf_counter() - start < 60  # measured: 9 s on two cores
