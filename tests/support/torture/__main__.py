"""The lab under fire, in numbers: `make torture` prints what held of how many tries, and writes docs/testing.md.

    make torture                                                (about twenty minutes on 2 cores)
    PYTHONPATH=tests/support python -m torture --share 0.05    (a twentieth of the tries, and no page)

Exit status 1 if anything did not hold. Runs on systems that can fork; disks need the right to mount them.
"""

import argparse
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch._dynamo  # torch.optim imports it on first use: paid once here, not in every child

from experiments.catalogue import EXPERIMENTS
from torture import answers, bad_folders, commands, corruptions, kills, worlds
from torture.families import SMALL, undisturbed
from torture.forks import Tally

PAGE = Path(__file__).parents[3] / "docs" / "testing.md"
BLOCK = re.compile(r"(?<=<!-- torture -->\n).*?(?=<!-- /torture -->)", re.DOTALL)
TRIES = {"kills": 200, "workers": 12, "damage": 500, "read": 4700, "run": 300, "answers": 20_000, "worlds": 1000}
"""How many of each kind make up the whole."""


def main() -> int:
    """Torture the lab; print the table, and what did not hold."""
    parser = argparse.ArgumentParser(prog="torture", description="the lab under fire, in numbers")
    parser.add_argument("--share", type=float, default=1.0, help="Share of the tries that is made (default: 1).")
    parser.add_argument("--seed", type=int, default=0, help="Other random moments, files and commands (default: 0).")
    flags = parser.parse_args()
    torch.set_num_threads(1)  # forked children cannot inherit a pool of threads
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="torture") as scratch:
        tallies = torture(Path(scratch).resolve(), flags.share, flags.seed)
    table = "\n".join(
        ["| what happens, and what must hold | tries | held |", "|---|---|---|", *(t.line for t in tallies)]
    )
    print(f"\n{table}\n\n{time.perf_counter() - start:.0f} s")
    for tally in tallies:
        for failure in tally.failures:
            print(f"\n{tally.what}\n  {failure}")
    if flags.share == 1 and flags.seed == 0:
        PAGE.write_text(BLOCK.sub(f"{table}\n", PAGE.read_text()))
    return int(any(tally.failures for tally in tallies))


def torture(scratch: Path, share: float, seed: int) -> list[Tally]:
    """Return what held, of every kind."""
    count = {name: max(1, round(share * tries)) for name, tries in TRIES.items()}
    for entry in EXPERIMENTS.values():  # children find everything imported
        if entry.extra is None:
            entry.load(), entry.figure()
    families = [undisturbed(name, scratch) for name in SMALL]
    exact, _, tokens = families
    kinds: list[Callable[[], list[Tally]]] = [
        lambda: kills.moments(families, count["kills"], scratch, seed),
        lambda: kills.workers(tokens, count["workers"], scratch, seed),
        lambda: corruptions.files(families, count["damage"], scratch, seed),
        lambda: commands.read(count["read"], scratch, seed),
        lambda: commands.run(count["run"], scratch, seed),
        lambda: answers.hostile(count["answers"], seed),
        lambda: worlds.random_worlds(count["worlds"], seed),
        lambda: bad_folders.bad_folders(exact, scratch),
    ]
    tallies = []
    for kind in kinds:
        start = time.perf_counter()
        more = kind()
        print(*(tally.line for tally in more), f"{time.perf_counter() - start:.0f} s", sep="\n", flush=True)
        tallies += more
    return tallies


if __name__ == "__main__":
    if not hasattr(os, "fork"):
        sys.exit("torture needs a system that can fork")
    sys.exit(main())
