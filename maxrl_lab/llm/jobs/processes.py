"""The processes that accelerate has started for a job: how many there are, their devices, and what they agree on."""

import os
from datetime import timedelta
from pathlib import Path

import torch

from maxrl_lab.errors import InputError
from maxrl_lab.llm import need
from maxrl_lab.runs.context import find_device


def process_count() -> int:
    """Return the number of processes that accelerate has started, 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


class Processes:
    """The processes that accelerate has started, or this one alone."""

    def __init__(self, device: str) -> None:
        """Meet the other processes, if there are any; `device` is as on the command line."""
        self._decided = False
        self.is_first, self.device = True, torch.device("cpu")
        self._together = process_count() > 1
        if not self._together:
            self.device = find_device(device)
            return
        patience = timedelta(days=7)  # the others wait while one evaluates
        state = need("accelerate").PartialState(cpu=device == "cpu", timeout=patience)
        self.is_first, self.device = bool(state.is_main_process), state.device

    def agree(self, state: Path | None = None) -> Path | None:
        """Return the first process's word: where all of them train now, or None if they do not train.

        The word is given once; later ones change nothing.
        """
        if self._together and not self._decided:
            word = [state]
            need("accelerate.utils").broadcast_object_list(word, from_process=0)
            (state,) = word
        self._decided = True
        return state


def check_devices(device: torch.device) -> None:
    """Raise `InputError` unless the trainer would take this device: the first GPU of a process's own, or the CPU."""
    visible = torch.cuda.device_count()
    if device.type == "cuda" and process_count() == 1 and (visible > 1 or device.index):
        raise InputError(
            f"expected one visible GPU, or a process for each (accelerate launch), got {device} of {visible}; "
            f"set CUDA_VISIBLE_DEVICES={device.index or 0}"
        )
