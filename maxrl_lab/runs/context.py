"""What every experiment is given besides its settings."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from tqdm import tqdm

from maxrl_lab.errors import InputError
from maxrl_lab.runs.checkpoint import Checkpoint


@dataclass(frozen=True)
class Context:
    """Where an experiment runs and where it keeps its unfinished state."""

    device: torch.device
    checkpoint: Checkpoint
    quiet: bool = False

    def progress(self, name: str) -> Callable[[Iterable[Any]], Iterable[Any]]:
        """Return a wrapper that shows a progress bar on standard error while it is iterated."""
        return lambda items: tqdm(items, desc=name, disable=self.quiet, dynamic_ncols=True)


def find_device(name: str) -> torch.device:
    """Return the device that --device names; `InputError` if it is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"--device must be auto, cpu, cuda or cuda:INDEX, got {name!r}") from None
    if device.type not in ("cpu", "cuda"):
        raise InputError(f"--device must be auto, cpu, cuda or cuda:INDEX, got {name!r}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(f"--device {name}: torch sees {torch.cuda.device_count()} GPUs here; use --device cpu")
    return device
