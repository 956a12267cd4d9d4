"""Mazes in tokens (§6.2 and App. L of arXiv:2602.02710v1): the way from the top-left to the bottom-right corner.

The prompt is <bos> GRID_START, row by row WALL, PATH, START or GOAL with NEWLINE after each row, GRID_END PATH_START;
the answer is UP, DOWN, LEFT, RIGHT ... DONE <eos>. Any way through free cells that ends at the goal is right, detours
included. `render` shows it:

    #######
    #Soo..#
    ###o###
    #ooo#.#
    #o###.#
    #ooooG#
    #######
"""

from collections.abc import Iterable, Iterator
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from envs.gridworld.levels import MAX_SIZE, MIN_SIZE
from envs.gridworld.mazes import MOVES, distances, prim_mazes
from maxrl_lab import specs
from maxrl_lab.errors import InputError
from maxrl_lab.sampling import sample_enough
from maxrl_lab.tokens.decoding import BOS, EOS, PAD, Vocabulary, ended
from maxrl_lab.tokens.tasks import TokenTask

MOVE_WORDS = ("UP", "DOWN", "LEFT", "RIGHT")
"""The words of the moves, in the order of `envs.gridworld.mazes.MOVES`."""
_NAMED = ("GRID_START", "GRID_END", "PATH_START", "WALL", "PATH", "START", "GOAL", "NEWLINE", *MOVE_WORDS, "DONE")
_UNUSED = 16
VOCABULARY = Vocabulary.of(" ".join([*_NAMED, *(f"<unused_{index}>" for index in range(_UNUSED))]))
"""The 32 tokens of the paper."""
_ID = VOCABULARY.ids
_PATIENCE = 20_000
"""A request is refused after this many samples in a row without a maze that fits."""


class Maze(TokenTask):
    """Perfect mazes of odd `size`, 5 to 33, by Prim's algorithm; content: walls (B, size, size) bool.

    `answer_length` counts DONE and <eos>. The default, 5 size² / 8 rounded down, is the paper's 180 at 17 and has room
    for every maze's shortest way; where it is less, only mazes whose shortest way fits are sampled. Raises `InputError`
    for other sizes, and for an `answer_length` in which no maze fits.
    """

    name = "maze"
    vocabulary = VOCABULARY

    def __init__(self, size: int = 17, answer_length: int | None = None) -> None:
        self.size = specs.check_count("size", size)
        if not MIN_SIZE <= self.size <= MAX_SIZE:
            raise InputError(f"size must lie in {MIN_SIZE}..{MAX_SIZE}, got {size}")
        if self.size % 2 == 0:
            raise InputError(f"a Prim maze needs an odd size, got {size}")
        least = 2 * (self.size - 3) + 2
        length = 5 * self.size**2 // 8 if answer_length is None else answer_length
        self.answer_length = specs.check_count("answer_length", length)
        if self.answer_length < least:
            raise InputError(f"the shortest way of {size} x {size} mazes takes {least} tokens, got {answer_length}")
        self.prompt_length = self.size * (self.size + 1) + 4

    @property
    def key(self) -> tuple[str | int, ...]:
        """The name, the size and the answer length."""
        return (self.name, self.size, self.answer_length)

    def sample(self, count: int, random: np.random.Generator) -> np.ndarray:
        """Return the walls of `count` mazes (count, size, size) bool, whose shortest ways fit the answer."""
        if self.answer_length >= (self.size - 1) ** 2 // 2:  # two moves from cell to cell, through all
            return prim_mazes(self.size, count, random)

        def candidates(missing: int) -> Iterator[np.ndarray | None]:
            walls = prim_mazes(self.size, 2 * missing + 8, random)
            fits = _moves_to_goal(walls)[:, 1, 1] + 2 <= self.answer_length
            for maze, fit in zip(walls, fits, strict=True):
                yield maze if fit else None

        mazes = sample_enough(candidates, count, patience=_PATIENCE)
        if len(mazes) < count:
            raise InputError(f"none of {_PATIENCE} mazes has a way of at most {self.answer_length} tokens")
        return np.stack(mazes)

    def encode(self, content: np.ndarray) -> tuple[Tensor, Tensor]:
        """Return prompts (B, size (size + 1) + 4), all of this length, and lengths (B,)."""
        self._check_content(content)
        grid = np.full((len(content), self.size, self.size + 1), _ID["NEWLINE"])
        grid[:, :, :-1] = np.where(content, _ID["WALL"], _ID["PATH"])
        grid[:, 1, 1], grid[:, -2, -3] = _ID["START"], _ID["GOAL"]
        prompts = np.empty((len(content), grid[0].size + 4), dtype=np.int64)
        prompts[:, :2] = BOS, _ID["GRID_START"]
        prompts[:, 2:-2] = grid.reshape(len(content), -1)
        prompts[:, -2:] = _ID["GRID_END"], _ID["PATH_START"]
        return torch.from_numpy(prompts), torch.full((len(content),), prompts.shape[1])

    def verify(self, content: np.ndarray, answers: Tensor, lengths: Tensor) -> Tensor:
        """Return which answers (B, N, T) are right, (B, N) bool, on the device of the answers."""
        self._check_content(content)
        self.check_answers(content, answers, lengths)
        width = self.size
        free = torch.from_numpy(~content.reshape(len(content), -1)).to(answers.device)
        steps = self._steps.to(answers.device)
        moves = lengths - 2
        last = answers.gather(2, moves.clamp(min=0)[..., None]).squeeze(2)
        right = ended(answers, lengths) & (last == _ID["DONE"])
        cell = torch.full_like(lengths, width + 1)
        for time in range(answers.shape[2] - 2):
            walking = right & (time < moves)
            step = steps.index_select(0, answers[..., time].reshape(-1)).view_as(cell)  # quicker than steps[...]
            # an answer that has gone wrong stands still, so that no cell is ever beyond the walls all around
            cell = cell + step * walking
            right = right & ~(walking & ((step == 0) | ~free.gather(1, cell)))
        return right & (cell == free.shape[1] - width - 2)

    def solutions(self, content: np.ndarray, random: np.random.Generator) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """Return the shortest way of each maze (B, T), <eos> included, padded, and lengths (B,)."""
        self._check_content(content)
        ways, moves = _shortest_ways(content)
        lengths = moves + 2
        longest = int(lengths.max())
        self.check_solutions(longest)
        answers = np.pad(ways, ((0, 0), (0, 2)), constant_values=PAD)
        rows = np.arange(len(content))
        answers[rows, lengths - 2], answers[rows, lengths - 1] = _ID["DONE"], EOS
        return torch.from_numpy(answers), torch.from_numpy(lengths)

    @cached_property
    def _steps(self) -> Tensor:
        """How far each token (V,) moves through the cells, counted row by row; 0 for those that are no moves."""
        steps = torch.zeros(len(VOCABULARY), dtype=torch.long)
        for word, (down, right) in zip(MOVE_WORDS, MOVES, strict=True):
            steps[_ID[word]] = down * self.size + right
        return steps

    def _check_content(self, content: np.ndarray) -> None:
        shape = (len(content), self.size, self.size)
        if content.dtype != bool or content.shape != shape:
            raise InputError(f"expected walls {shape} bool, got {content.shape} {content.dtype}")
        if not (content[:, [0, -1]].all() and content[:, :, [0, -1]].all()):
            raise InputError("a maze has walls all around, got one that is open")


def _shortest_ways(walls: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the moves of a shortest way in each maze (B, longest), padded, and their numbers (B,)."""
    count, width = walls.shape[:2]
    steps = _moves_to_goal(walls).reshape(count, -1).astype(np.int64)
    cell, maze = np.full(count, width + 1), np.arange(count)
    lengths = steps[maze, cell]
    if (lengths < 0).any():
        raise InputError("expected a way from start to goal in every maze, got one without")
    ways = np.full((count, int(lengths.max())), PAD)
    apart = np.array([down * width + right for down, right in MOVES])
    words = np.array([_ID[word] for word in MOVE_WORDS])
    for time in range(ways.shape[1]):
        left = lengths - time
        direction = (steps[maze, cell + apart[:, None]] == left - 1).argmax(0)
        ways[:, time] = np.where(left > 0, words[direction], PAD)
        cell = cell + np.where(left > 0, apart[direction], 0)
    return ways, lengths


def _moves_to_goal(walls: np.ndarray) -> np.ndarray:
    """Return the number of moves from every cell of the mazes (B, size, size) to the goal; -1 where there is no way."""
    goal = walls.shape[1] - 2
    return distances(~walls, (goal, goal))


def render(walls: np.ndarray, answer: Iterable[str | int] = ()) -> str:
    """Return a maze (size, size) as lines of `#` wall, `.` free, `S`, `G`, with the way of an answer marked `o`.

    The answer is words or token ids; the way ends at the first that is no move, or with `X` on the wall it walks into.
    """
    cells = np.where(np.asarray(walls), "#", ".")
    row = col = 1
    for token in answer:
        word = token if isinstance(token, str) else VOCABULARY.words[int(token)]
        if word not in MOVE_WORDS or cells[row, col] == "X":
            break
        down, right = MOVES[MOVE_WORDS.index(word)]
        row, col = row + down, col + right
        cells[row, col] = "X" if cells[row, col] == "#" else "o"
    cells[1, 1], cells[-2, -2] = "S", "G"
    return "\n".join("".join(line) for line in cells)
