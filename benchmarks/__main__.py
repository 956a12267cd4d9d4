"""How fast is the lab beside its peers on this machine? All comparisons, their results, and the page made of them.

    python -m benchmarks                      (half an hour on 2 cores; writes benchmarks/results/<machine>.json)
    python -m benchmarks --sections tokens --memory tuned      (some of it; the other results of the file stay)
    python -m benchmarks --tiny               (everything at its smallest, in a minute, into a temporary file)

The machine should have nothing else to do: the file holds its load at the beginning of every section. Sections run one
after the other, those of tokens in processes of their own, because glibc reads its memory settings at the start.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks import classification, curves, navigation, page, token_peers
from benchmarks.record import Record, file_of_machine

SECTIONS = ("classification", "navigation", "tokens", "llm")
MEMORY = {"default": {}, "tuned": token_peers.tuned_environment()}
TINY = navigation.Sizes((8,), (8,), 1, "smoke", (2, 4), ((("rloo", "maxrl"), 2, 1),), 2)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write the file, and then the page and its picture unless the sizes are tiny."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="Run the smallest sizes, and leave the page alone.")
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=SECTIONS, help="Sections to run.")
    parser.add_argument("--memory", nargs="+", choices=MEMORY, default=MEMORY, help="Memory settings of tokens.")
    parser.add_argument("--rounds", type=int, default=5, help="Number of rounds of which the median is shown.")
    parser.add_argument("--record", type=Path, help="File to write; the default is benchmarks/results/<machine>.json.")
    parser.add_argument("--note", default="", help="Sentence on the circumstances, for the page.")
    flags = parser.parse_args(arguments)
    path = Path(tempfile.gettempdir()) / "maxrl_lab-tiny.json" if flags.tiny else file_of_machine()
    path = flags.record or path
    record = Record.of_machine(path, flags.note)
    if "classification" in flags.sections:
        sizes = (((1, 4, 4),), 8) if flags.tiny else (classification.SWEEPS, 1024)
        classification.main(*sizes, rounds=flags.rounds, record=record)
    if "navigation" in flags.sections:
        navigation.main(TINY if flags.tiny else navigation.Sizes(rounds=flags.rounds), record)
    record.save()
    small = ["--tiny"] if flags.tiny else []
    for memory in flags.memory if "tokens" in flags.sections else ():
        _run("benchmarks.tokens", path, "--memory", memory, "--rounds", str(flags.rounds), *small, memory=memory)
    if "llm" in flags.sections and not flags.tiny and token_peers.installed():
        _run("benchmarks.llm", path, "--rounds", str(flags.rounds))
    if not flags.tiny:
        curves.main()
        page.main()
    print(f"results: {path}")
    return 0


def _run(module: str, record: Path, *arguments: str, memory: str = "default") -> None:
    command = [sys.executable, "-m", module, *arguments, "--record", str(record)]
    subprocess.run(command, env={**os.environ, **MEMORY[memory]}, check=True)


if __name__ == "__main__":
    sys.exit(main())
