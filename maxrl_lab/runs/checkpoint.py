"""The state of an unfinished computation on disk: tensors and plain values, read without executing anything."""

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from maxrl_lab.errors import InputError
from maxrl_lab.runs.files import write_atomically


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
        torch.save(dict(state), buffer)
        buffer.seek(0)
        try:
            torch.load(buffer, map_location="cpu", weights_only=True)
        except Exception as error:  # the fault is found now, not after the kill that needs the state
            raise TypeError(f"a state of tensors and plain values was expected, got another value: {error}") from None
        write_atomically(self._file, buffer.getvalue())

    def load(self) -> dict[str, Any] | None:
        """Return the saved state, None if there is none; raise `InputError` if the file is damaged."""
        if not self._file.exists():
            return None
        try:
            with zipfile.ZipFile(self._file) as archive:
                if (damaged := archive.testzip()) is not None:
                    raise ValueError(f"wrong checksum of {damaged}")
            state: dict[str, Any] = torch.load(self._file, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises many kinds for a damaged file; all mean the same here
            raise InputError(f"the checkpoint {self._file} is damaged; start again with --force") from error
        return state

    @property
    def _file(self) -> Path:
        return self.path.with_name(self.path.name + ".pt")
