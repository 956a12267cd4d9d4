"""The state of an unfinished computation on disk: tensors and plain values, read without executing anything."""

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from maxrl_lab.errors import InputError
from maxrl_lab.runs.files import write_atomically

_STAGE = "the stage of this state"


class Checkpoint:
    """Where one stage of a computation keeps its state between sessions."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def stage(self, name: str) -> "Checkpoint":
        """Return the checkpoint of a named stage below this one."""
        return Checkpoint(self.path / name)

    def save(self, state: Mapping[str, Any]) -> None:
        """Replace the saved state by `state`: nested dicts and lists of tensors and plain values.

        Raises `TypeError` for any other value: it could not be read back.
        """
        buffer = io.BytesIO()
        torch.save({**state, _STAGE: self._name}, buffer)
        buffer.seek(0)
        try:
            torch.load(buffer, map_location="cpu", weights_only=True)
        except Exception as error:  # the fault is found now, not after the kill that needs the state
            raise TypeError(f"a state of tensors and plain values was expected, got another value: {error}") from None
        write_atomically(self._file, buffer.getvalue())

    def load(self) -> dict[str, Any] | None:
        """Return the saved state, None if there is none; raise `InputError` if it is damaged or another stage's."""
        if not self._file.exists():
            return None
        try:
            with zipfile.ZipFile(self._file) as archive:
                if (damaged := archive.testzip()) is not None:
                    raise ValueError(f"wrong checksum of {damaged}")
            state: dict[str, Any] = torch.load(self._file, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises many kinds for a damaged file; all mean the same here
            raise InputError(f"the checkpoint {self._file} is damaged; start again with --force") from error
        if (stage := state.pop(_STAGE, None)) != self._name:
            raise InputError(
                f"the checkpoint {self._file} holds the state of another stage ({stage}); start again with --force"
            )
        return state

    @property
    def _name(self) -> str:
        """The stage and the one that it is part of, wherever the run lies."""
        return "/".join(self.path.parts[-2:])

    @property
    def _file(self) -> Path:
        return self.path.with_name(self.path.name + ".pt")
