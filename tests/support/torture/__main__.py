"""The lab under fire, in numbers: `make torture` prints what held of how many tries, and writes docs/testing.md.

    make torture                                                    (27 minutes of processor time, on 2 cores)
    PYTHONPATH=tests/support python -m torture --kinds damage      (one kind; the other lines of the page stay)
    PYTHONPATH=tests/support python -m torture --share 0.05        (a twentieth of the tries, and no page)

Exit status 1 if anything did not hold. Runs on systems that can fork; disks need the right to mount them.
"""

import argparse
import functools
import multiprocessing
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import torch
import torch._dynamo  # torch.optim imports it on first use: paid once here, not in every child
from matplotlib.figure import Figure

from experiments.catalogue import EXPERIMENTS
from maxrl_lab.runs.fingerprint import fingerprint
from torture import answers, bad_folders, commands, corruptions, kills, worlds
from torture.families import SMALL, Family, undisturbed
from torture.forks import Tally

PAGE = Path(__file__).parents[3] / "docs" / "testing.md"
BLOCK = re.compile(r"(?<=<!-- torture -->\n).*?(?=<!-- /torture -->)", re.DOTALL)
HEAD = ("| what happens, and what must hold | tries | held |", "|---|---|---|")
TRIES = {
    **{"damage": 500, "kills": 200, "run": 300, "answers": 20_000, "read": 4700, "workers": 12, "worlds": 1000},
    "folders": 1,
}
"""How many of each kind make up the whole; those that take longest come first."""
PARTS = 4
"""Largest number of parts in which a kind is done, each with random numbers of its own."""
FEW_PARTS = {"damage": 2}
"""The same for kinds whose parts take long to prepare."""
Part = Callable[[int, Path, int], list[Tally]]
"""Tries, a folder and a seed, to what held."""


def main() -> int:
    """Torture the lab; print the table, and what did not hold."""
    parser = argparse.ArgumentParser(prog="torture", description="the lab under fire, in numbers")
    parser.add_argument("--share", type=float, default=1.0, help="Share of the tries that is made (default: 1).")
    parser.add_argument("--seed", type=int, default=0, help="Other random moments, files and commands (default: 0).")
    parser.add_argument("--kinds", nargs="+", choices=TRIES, default=list(TRIES), help="Kinds (default: all).")
    cores = torch.get_num_threads()
    parser.add_argument("--processes", type=int, default=cores, help=f"Parts at a time (default: {cores}).")
    flags = parser.parse_args()
    torch.set_num_threads(1)  # forked children cannot inherit a pool of threads
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="torture") as scratch:
        count = {name: max(1, round(flags.share * TRIES[name])) for name in flags.kinds}
        tallies = torture(Path(scratch).resolve(), count, flags.seed, flags.processes)
    print("", *HEAD, *(tally.line for tally in tallies), "", f"{time.perf_counter() - start:.0f} s", sep="\n")
    for tally in tallies:
        for failure in tally.failures:
            print(f"\n{tally.what}\n  {failure}")
    if flags.share == 1 and flags.seed == 0:
        PAGE.write_text(with_lines(PAGE.read_text(), [tally.line for tally in tallies]))
    return int(any(tally.failures for tally in tallies))


def with_lines(page: str, lines: Sequence[str]) -> str:
    """Return the page with these lines in its table, in the place of those of the same kinds."""
    made = {line.split("|")[1]: line for line in lines}

    def table(block: re.Match[str]) -> str:
        kept = [line for line in block[0].splitlines() if line.startswith("| ") and line not in HEAD]
        whole = [made.pop(line.split("|")[1], line) for line in kept]
        return "\n".join([*HEAD, *whole, *made.values(), ""])

    return BLOCK.sub(table, page)


def torture(scratch: Path, count: dict[str, int], seed: int, processes: int) -> list[Tally]:
    """Return what held, of every kind, in parts side by side."""
    _prepare()
    families = [undisturbed(name, scratch) for name in SMALL]
    exact, _, tokens = families
    kinds: dict[str, Part] = {
        "kills": functools.partial(kills.moments, families),
        "workers": functools.partial(kills.workers, tokens),
        "damage": functools.partial(corruptions.files, families),
        "read": commands.read,
        "run": commands.run,
        "answers": functools.partial(_anywhere, answers.hostile),
        "worlds": functools.partial(_anywhere, worlds.random_worlds),
        "folders": functools.partial(_folders, exact),
    }
    jobs = [
        (name, part, count[name] // parts + (part < count[name] % parts))
        for name in count
        for parts in [min(FEW_PARTS.get(name, PARTS), count[name])]
        for part in range(parts)
    ]
    tallies: dict[str, dict[str, Tally]] = {name: {} for name in kinds}
    start = time.perf_counter()
    with ProcessPoolExecutor(processes, multiprocessing.get_context("fork")) as pool:
        waiting = {
            pool.submit(kinds[name], tries, scratch / f"{name}-{part}", PARTS * seed + part): (name, part)
            for name, part, tries in jobs
        }
        for done in as_completed(waiting):
            name, part = waiting[done]
            for tally in done.result():
                whole = tallies[name].setdefault(tally.what, Tally(tally.what))
                whole.tried, whole.failures = whole.tried + tally.tried, whole.failures + tally.failures
            wrong = [failure for tally in done.result() for failure in tally.failures]
            print(f"{time.perf_counter() - start:.0f} s: {name} {part}", *wrong, sep="\n  ", flush=True)
    return [tally for kind in tallies.values() for tally in kind.values() if tally.tried]


def _anywhere(kind: Callable[[int, int], list[Tally]], tries: int, _: Path, seed: int) -> list[Tally]:
    return kind(tries, seed)


def _folders(family: Family, _tries: int, scratch: Path, _seed: int) -> list[Tally]:
    return bad_folders.bad_folders(family, scratch)


def _prepare() -> None:
    """Let forked children find all modules imported and all source read, and draw small pictures quickly."""
    for entry in EXPERIMENTS.values():
        if entry.extra is None:
            entry.load(), entry.figure()
    for name in SMALL:
        fingerprint(EXPERIMENTS[name].load().__name__)
    whole = Figure.savefig

    def savefig(figure: Figure, *arguments: Any, **options: Any) -> None:
        figure.set_layout_engine("none")
        whole(figure, *arguments, **{**options, "dpi": 30})

    Figure.savefig = savefig  # type: ignore[method-assign]


if __name__ == "__main__":
    if not hasattr(os, "fork"):
        sys.exit("torture needs a system that can fork")
    sys.exit(main())
