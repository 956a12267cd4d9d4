"""Random numbers addressed by what they are for: no stream depends on what else is drawn, or on a run being killed."""

import hashlib
import operator

import torch

from maxrl_lab.errors import InputError


def generator(*key: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a torch generator whose stream depends on `key` alone, e.g. ("images", seed, step).

    So runs that differ only in the estimator draw the same numbers, whichever other runs train in the same program, and
    a resumed run continues with the numbers that an uninterrupted one draws. The key is hashed; torch's CPU generator
    uses 32 bits of the hash, so two given keys share a stream with probability 2^-32. Raises `InputError` for a
    negative number.
    """
    parts = tuple(part if isinstance(part, str) else operator.index(part) for part in key)
    for part in parts:
        if isinstance(part, int) and part < 0:
            raise InputError(f"a key holds names and non-negative numbers, got {part}")
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return torch.Generator(device=device).manual_seed(int.from_bytes(digest, "little") >> 1)
