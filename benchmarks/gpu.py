"""What does a GPU do with the paper's sizes? One script of at most 8 minutes, whose rows are written as they come.

    python -m benchmarks.gpu                 (writes benchmarks/results/<card>.json)
    python -m benchmarks.gpu --tiny          (everything at its smallest, on the CPU, in seconds)

It needs torch, numpy, scipy, safetensors and this repository. Its sections (`benchmarks.gpu_sections`) are the card's
own speed, checks against the CPU, the GPU tests, a small policy's step beside one CPU thread's, how many kernels a step
starts, the paper's maze step, table rollouts, updates of `maze_scaling --preset full`, what bfloat16 does to what a
small policy learns, and captured sampling, updates and table rollouts beside the ordinary ones. A section that fails
leaves its error in the file, and the next one goes on; what is captured comes last, since a card that cannot capture
may not recover. No section starts a piece of work that the time left for it cannot hold.
"""

import argparse
import platform
import re
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from benchmarks import gpu_captured, gpu_checks, gpu_learning, gpu_sections
from benchmarks.gpu_work import FULL, TINY, Sizes, Work
from benchmarks.record import RESULTS
from maxrl_lab.rows import Row
from maxrl_lab.runs.files import write_json

SECTIONS: dict[str, tuple[Callable[[Work], Iterator[Row]], float]] = {
    "card": (gpu_sections.card, 0.1),
    "checks": (gpu_checks.checks, 0.15),
    "tests": (gpu_sections.tests, 0.2),
    "small_step": (gpu_sections.small_step, 0.2),
    "launches": (gpu_sections.launches, 0.2),
    "paper_step": (gpu_sections.paper_step, 0.5),
    "table_rollouts": (gpu_sections.table_rollouts, 0.3),
    "maze_scaling": (gpu_learning.maze_scaling, 0.3),
    "bfloat16_learning": (gpu_learning.bfloat16_learning, 0.5),
    "captured_sampling": (gpu_captured.captured_sampling, 0.4),
    "captured_update": (gpu_captured.captured_update, 0.8),
    "captured_table_rollouts": (gpu_captured.captured_table_rollouts, 1.0),
}
"""Name to the rows of a section, and the largest share of the time left that it may take."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the sections; return 1 if one of them failed, else 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="Run the smallest sizes on the CPU.")
    parser.add_argument("--minutes", type=float, default=8.0, help="Number of minutes that all sections may take.")
    parser.add_argument("--out", type=Path, help="File to write; the default is benchmarks/results/<card>.json.")
    parser.add_argument("--note", default="", help="Sentence on the circumstances, for the page.")
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS), help="Sections to run.")
    flags = parser.parse_args(arguments)
    device = torch.device("cuda" if torch.cuda.is_available() and not flags.tiny else "cpu")
    path = flags.out or default_path(device, tiny=flags.tiny)
    record = run(TINY if flags.tiny else FULL, device, 60 * flags.minutes, path, flags.sections, flags.note)
    failed = [name for name, section in record["sections"].items() if section["error"]]
    print(f"{path}: {len(record['sections'])} sections, failed: {', '.join(failed) or 'none'}")
    return 1 if failed else 0


def default_path(device: torch.device, *, tiny: bool) -> Path:
    """Return the file of the card's results; that of a tiny run is in the folder of temporary files."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "cpu"
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    return Path(tempfile.gettempdir()) / f"maxrl_lab-gpu-tiny-{slug}.json" if tiny else RESULTS / f"{slug}.json"


def run(sizes: Sizes, device: torch.device, seconds: float, path: Path, names: Sequence[str], note: str = "") -> Row:
    """Run the named sections within so many seconds; return what was written to `path`."""
    end = time.monotonic() + seconds
    on_cuda = device.type == "cuda"
    record: Row = {
        "card": torch.cuda.get_device_name(device) if on_cuda else "cpu",
        "torch": torch.__version__,
        "python": platform.python_version(),
        "sizes": asdict(sizes),
        "seconds_allowed": seconds,
        "note": note,
        "sections": {},
    }
    for name in names:
        function, share = SECTIONS[name]
        section: Row = {"seconds": 0.0, "error": None, "rows": []}
        record["sections"][name] = section
        start = time.monotonic()
        work = Work(sizes, device, start + share * (end - start), record)
        try:
            for row in function(work):
                section["rows"].append(row)
                section["seconds"] = time.monotonic() - start
                print(f"{name:>23} {section['seconds']:6.1f} s  {_text(row)}", flush=True)
                write_json(path, record)
        except Exception as error:  # whatever it is, the next section may still tell something
            section["error"] = traceback.format_exc()
            print(f"{name:>23} failed: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            if on_cuda:
                torch.cuda.empty_cache()
        section["seconds"] = time.monotonic() - start
        write_json(path, record)
    return record


def _text(row: Row) -> str:
    """Return a row on one line."""
    return ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in row.items()
    )


if __name__ == "__main__":
    sys.exit(main())
