"""The fair comparison: the same learning rates are swept for every method, on seeds that are not reported."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType

from maxrl_lab.errors import InputError
from maxrl_lab.rows import Row, Tables, append
from maxrl_lab.training.groups import DivergedError
from maxrl_lab.training.methods import Method

Key = tuple[str, int | None]
"""A method's name and its number of rollouts."""


@dataclass(frozen=True)
class Run:
    """The training of one network."""

    method: Method
    learning_rate: float
    seed: int

    @property
    def name(self) -> str:
        """The run in words, for messages and progress bars: `grpo, N = 4, learning rate 0.1, seed 0`."""
        return f"{name_at(self.method)}, learning rate {self.learning_rate:g}, seed {self.seed}"

    def row(self, step: int) -> Row:
        """Return the columns that name this run and a number of updates."""
        return {
            "method": self.method.name,
            "rollouts": self.method.rollouts,
            "learning_rate": self.learning_rate,
            "seed": self.seed,
            "step": step,
        }


@dataclass(frozen=True)
class Comparison:
    """What `compare` did: the sweep, the rates it chose, the runs that are reported, and the tables they made."""

    sweep: list[Row]
    best: dict[Key, float]
    runs: list[Run]
    report: Tables

    @property
    def tables(self) -> Tables:
        """Return the sweep, if any rate was swept, and what the reported runs made."""
        return {**({"sweep": self.sweep} if self.sweep else {}), **self.report}


def compare(
    methods: Sequence[Method],
    rates: Sequence[float],
    *,
    seeds: int,
    sweep_seeds: int,
    score: str,
    sweep: Callable[[Sequence[Run]], list[Row]],
    report: Callable[[Sequence[Run]], Tables],
    swept_as: Callable[[Method], Method] = lambda method: method,
    fixed: Mapping[str, float] = MappingProxyType({}),
    section: str = "",
) -> Comparison:
    """Sweep the rates alike for every method, choose each method's best, and train the reported runs at it.

    A method with a rate in `fixed` is not swept: its key there is its name at N (`maxrl, N = 16`) behind the words of
    `section`, if the experiment makes several comparisons (`gridworld adam maxrl, N = 16`).

    Seeds 0 .. seeds-1 are reported; the next `sweep_seeds` ones choose. `sweep(runs)` trains the runs of the sweep and
    returns one final row a run with the column `score`, of which more is better; `report(runs)` trains the reported
    runs and returns their tables. `swept_as(method)` is the method whose sweep chooses a method's rate: itself, unless
    a sweep at one N serves every N. Raises `InputError` if two methods could not be told apart in a row.
    """
    known = {key_of(method): fixed[name] for method in methods if (name := name_at(method, section)) in fixed}
    unknown = [method for method in methods if key_of(method) not in known]
    swept = list({key_of(method): method for method in map(swept_as, unknown)}.values())
    if len({key_of(method) for method in methods}) < len(methods):
        raise InputError(f"methods must be distinct, got {', '.join(str(key_of(method)) for method in methods)}")
    trials = swept_runs(swept, rates, seeds, sweep_seeds)
    rows = sweep(trials) if trials else []
    if len(rows) != len(trials):
        raise RuntimeError(f"a sweep of {len(trials)} runs must return as many rows, got {len(rows)}")
    by_sweep = choose_learning_rates(rows, score)
    best = {**known, **{key_of(method): by_sweep[key_of(swept_as(method))] for method in unknown}}
    runs = reported_runs(methods, best, seeds)
    return Comparison(rows, best, runs, report(runs))


def key_of(method: Method) -> Key:
    """Return what names a method in rows."""
    return method.name, method.rollouts


def name_at(method: Method, section: str = "") -> str:
    """Return a method's name at its N, in words, behind those of a section: `gridworld adam maxrl, N = 16`."""
    return name_of_row(method.name, method.rollouts, section)


def name_of_row(method: str, rollouts: float | None, section: str = "") -> str:
    """Return the same name from the columns of a row, in which an exact gradient's N is None or NaN."""
    count = "" if rollouts is None or math.isnan(rollouts) else f", N = {rollouts:g}"
    return f"{section} {method}{count}".lstrip()


def swept_runs(methods: Sequence[Method], rates: Sequence[float], first_seed: int, seeds: int) -> list[Run]:
    """Return every method at every rate, on `seeds` seeds from `first_seed` on."""
    return [
        Run(method, rate, seed)
        for seed in range(first_seed, first_seed + seeds)
        for method in methods
        for rate in rates
    ]


def reported_runs(methods: Sequence[Method], best: dict[Key, float], seeds: int) -> list[Run]:
    """Return every method at its best rate, on seeds 0, 1, ..."""
    return [Run(method, best[key_of(method)], seed) for seed in range(seeds) for method in methods]


def choose_learning_rates(sweep: Sequence[Row], score: str) -> dict[Key, float]:
    """Return the rate with the highest mean of the column `score` per (method, rollouts).

    A rate at which any seed diverged (NaN) is not chosen; the smallest of equally good rates is.
    """
    scores: dict[Key, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in sweep:
        scores[row["method"], row["rollouts"]][row["learning_rate"]].append(row[score])
    best = {}
    for key, by_rate in scores.items():
        means = {rate: sum(values) / len(values) for rate, values in sorted(by_rate.items())}
        usable = {rate: mean for rate, mean in means.items() if not math.isnan(mean)} or means
        best[key] = max(usable, key=usable.__getitem__)
    return best


def in_blocks(runs: Sequence[Run], size: int, train: Callable[[int, Sequence[Run]], Tables]) -> Tables:
    """Train at most `size` runs at a time, as one batched program, and return their tables together.

    `train(number, block)` trains one block; blocks are numbered from 1.
    """
    tables: Tables = {}
    for number, start in enumerate(range(0, len(runs), size), 1):
        append(tables, train(number, runs[start : start + size]))
    return tables


@contextmanager
def naming_diverged(runs: Sequence[Run], task: str = "") -> Iterator[None]:
    """Say of a run that has diverged which one it is, and on which task if there are several."""
    try:
        yield
    except DivergedError as error:
        name = f"{task}: {runs[error.run].name}" if task else runs[error.run].name
        raise InputError(
            f"{name} has diverged: its policy is NaN after {error.step} updates; leave that rate out, with --out or "
            "--force (the last checkpoint is kept)"
        ) from None
