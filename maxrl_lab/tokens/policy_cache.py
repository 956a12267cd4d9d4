"""Policies on disk by an address, never trusted when damaged: what one experiment has trained, the others only read.

A policy's address is a hash of all it depends on: the key that the caller gives, the words, the versions of torch and
numpy, and the device. The folder opens in `transformers`. Nothing is ever removed: the folder may be deleted at any
time, and its policies are then made again.
"""

import hashlib
import json
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from maxrl_lab.errors import InputError
from maxrl_lab.policies.transformer import Transformer
from maxrl_lab.rows import Tables
from maxrl_lab.runs.files import cache_folder, write_atomically
from maxrl_lab.tokens import pretrained

_RECORD = "record.json"

Trained = tuple[Transformer, Tables]
"""A policy and what was measured while it learnt."""


def cached(
    kind: str, key: Mapping[str, Any], words: Sequence[str], device: torch.device, make: Callable[[str], Trained]
) -> Trained:
    """Return the policy of `key`, made if it is not there; a damaged one is made again.

    `make` is told the address, which names its checkpoint: what another key has left is never continued. Raises
    `InputError` if the cache cannot be written to, before anything is made.
    """
    described = {"kind": kind, "words": list(words), **key, **_circumstances(device)}
    text = json.dumps(described, sort_keys=True)
    folder = cache_folder() / "policies" / f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    kept = _read(folder, text)
    if kept is None:
        _check_writable(folder)
        policy, tables = make(folder.name)
        _keep(policy.cpu(), tables, folder, text, words)
        kept = _read(folder, text) or (policy, tables)
    policy, tables = kept
    return policy.to(device), tables


def _check_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(f"policies cannot be kept ({error}); MAXRL_LAB_CACHE names another folder") from None


def _keep(policy: Transformer, tables: Tables, folder: Path, key: str, words: Sequence[str]) -> None:
    """Write the policy, and its record last; a disk that is full costs a warning, not the policy."""
    try:
        pretrained.save(policy, folder, words)
        record = {"key": key, "tables": tables, "digest": _digest(folder, key, tables)}
        write_atomically(folder / _RECORD, (json.dumps(record) + "\n").encode())
    except OSError as error:
        message = f"the policy is not kept for the next time ({error}); MAXRL_LAB_CACHE names another folder"
        warnings.warn(message, RuntimeWarning, stacklevel=4)


def _read(folder: Path, key: str) -> Trained | None:
    try:
        record = json.loads((folder / _RECORD).read_text())
        if record["key"] != key or record["digest"] != _digest(folder, key, record["tables"]):
            return None
        return pretrained.load(folder), record["tables"]
    except Exception:  # damaged files fail in many ways; all mean the same here
        return None


def _digest(folder: Path, key: str, tables: Tables) -> str:
    """Return the hash of all that is trusted: key, tables, and names and contents of files, but half-written ones."""
    digest = hashlib.sha256(json.dumps([key, tables]).encode())
    for file in sorted(folder.iterdir()):
        if file.name != _RECORD and file.suffix != ".tmp":
            digest.update(f"{file.name}:{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def _circumstances(device: torch.device) -> dict[str, Any]:
    name = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"cpu {torch.backends.cpu.get_cpu_capability()}"
    )
    return {"torch": torch.__version__, "numpy": np.__version__, "device": name}
