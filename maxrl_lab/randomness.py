"""Random numbers addressed by what they are for, so that nothing depends on who else draws, or on a killed run."""

import numpy as np
import torch


def generator(*key: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a torch generator whose stream depends on `key` alone, e.g. (seed, purpose, step).

    Runs with the same seed that differ in the estimator draw the same numbers, whoever trains beside them; a resumed
    run continues with the numbers it would have had. Keys are non-negative integers.
    """
    state = np.random.SeedSequence(key).generate_state(1, np.uint64)[0]
    return torch.Generator(device=device).manual_seed(int(state >> np.uint64(1)))
