"""Several batches of tabular tasks as one: ragged numbers of states padded, equal observations merged."""

from collections.abc import Sequence

import torch
from torch import Tensor

from maxrl_lab.errors import InputError
from maxrl_lab.tabular.tables import TABLES
from maxrl_lab.tabular.tasks import TabularTasks


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
    features, rows = _merge([part.features for part in parts if part.features is not None])
    columns: dict[str, list[Tensor]] = {name: [] for name in TABLES}
    for index, part in enumerate(parts):
        missing = states - part.shape[1]
        _add_moves(columns, part, parts, missing)
        columns["start"].append(_pad(part.start, 1, missing))
        columns["success"].append(_pad(part.success, 1, missing))
        columns["failure"].append(_pad(part.failure, 1, missing, fill=True))
        if part.observations is not None:
            columns["observations"].append(_pad(rows[index][part.observations], 1, missing))
    tensors = {name: torch.cat(values) for name, values in columns.items() if values}
    return TabularTasks(**tensors, features=features, horizon=parts[0].horizon)


def _add_moves(
    columns: dict[str, list[Tensor]], part: TabularTasks, parts: Sequence[TabularTasks], missing: int
) -> None:
    """Append a part's successors, with probabilities as soon as any of the parts has some."""
    successors, probabilities = part.successors, part.probabilities
    if all(other.probabilities is None for other in parts):
        columns["successors"].append(_pad(successors, 1, missing))
        return
    if probabilities is None:
        successors = successors[..., None]
        probabilities = torch.ones_like(successors, dtype=torch.float64)
    width = max(other.successors.shape[3] for other in parts if other.successors.ndim == 4)
    successors, probabilities = (_pad(value, 3, width - value.shape[3]) for value in (successors, probabilities))
    probabilities = _pad(probabilities, 1, missing)
    probabilities[:, part.shape[1] :, :, 0] = 1.0
    columns["successors"].append(_pad(successors, 1, missing))
    columns["probabilities"].append(probabilities)


def _check_equal(name: str, values: Sequence[object]) -> None:
    if len(set(values)) > 1:
        got = " and ".join(map(str, dict.fromkeys(values)))
        raise InputError(f"tasks of one batch need the same {name}, got {got}")


def _merge(features: list[Tensor]) -> tuple[Tensor | None, list[Tensor]]:
    """Return the distinct observations of all parts, and for each part the new row of every old one."""
    if not features:
        return None, []
    merged, rows = torch.cat(features).unique(dim=0, return_inverse=True)
    return merged, list(rows.split([len(part) for part in features]))


def _pad(value: Tensor, axis: int, count: int, fill: bool = False) -> Tensor:
    shape = list(value.shape)
    shape[axis] = count
    return torch.cat([value, value.new_full(shape, fill)], axis)
