"""Several batches of tabular tasks as one: ragged numbers of states padded, equal observations merged."""

from collections.abc import Sequence

import torch
from torch import Tensor

from maxrl_lab.errors import InputError
from maxrl_lab.tabular.tasks import TABLES, TabularTasks


def concatenate(parts: Sequence[TabularTasks]) -> TabularTasks:
    """Return all tasks of all parts as one batch: states padded, equal observations merged.

    The parts need the same actions, horizon and kind of observation; stochastic and deterministic ones may be mixed.
    """
    if not parts:
        raise InputError("expected at least one batch of tasks, got none")
    _check_equal("actions", [part.shape[2] for part in parts])
    _check_equal("horizon", [part.horizon for part in parts])
    shapes = [None if part.features is None else tuple(part.features.shape[1:]) for part in parts]
    _check_equal("shape of observations", shapes)
    states = max(part.shape[1] for part in parts)
    stochastic = max(1 if part.successors.ndim == 3 else part.successors.shape[3] for part in parts)
    any_stochastic = any(part.probabilities is not None for part in parts)
    features, rows = _merge([part.features for part in parts if part.features is not None])
    columns: dict[str, list[Tensor]] = {name: [] for name in TABLES}
    for place, part in enumerate(parts):
        missing = states - part.shape[1]
        successors, probabilities = part.successors, part.probabilities
        if any_stochastic:
            if probabilities is None:
                successors, probabilities = (
                    successors[..., None],
                    torch.ones_like(successors, dtype=torch.float64)[..., None],
                )
            successors, probabilities = (
                _pad(value, 3, stochastic - value.shape[3]) for value in (successors, probabilities)
            )
            probabilities = _pad(probabilities, 1, missing)
            probabilities[:, part.shape[1] :, :, 0] = 1.0
            columns["probabilities"].append(probabilities)
        columns["successors"].append(_pad(successors, 1, missing))
        columns["start"].append(_pad(part.start, 1, missing))
        columns["success"].append(_pad(part.success, 1, missing))
        columns["failure"].append(_pad(part.failure, 1, missing, fill=True))
        if part.observations is not None:
            columns["observations"].append(_pad(rows[place][part.observations], 1, missing))
    tensors = {name: torch.cat(values) for name, values in columns.items() if values}
    return TabularTasks(**tensors, features=features, horizon=parts[0].horizon)


def _check_equal(name: str, values: Sequence[object]) -> None:
    if len(set(values)) > 1:
        got = " and ".join(map(str, dict.fromkeys(values)))
        raise InputError(f"tasks of one batch need the same {name}, got {got}")


def _merge(features: list[Tensor]) -> tuple[Tensor | None, list[Tensor]]:
    """Distinct observations of all parts, and for each part the new row of every old one."""
    if not features:
        return None, []
    merged, rows = torch.cat(features).unique(dim=0, return_inverse=True)
    return merged, list(rows.split([len(each) for each in features]))


def _pad(value: Tensor, axis: int, count: int, fill: bool = False) -> Tensor:
    shape = list(value.shape)
    shape[axis] = count
    return torch.cat([value, value.new_full(shape, fill)], axis)
