"""Network inputs from observations that are rows of whole numbers."""

import torch
from torch import Tensor

from maxrl_lab.errors import InputError


class OneHot:
    """One-hot encoding of every column that varies in the features (O, F) it was made from.

    Raises `InputError` unless these are integers of which some column varies.
    """

    def __init__(self, features: Tensor) -> None:
        if features.ndim != 2 or features.is_floating_point():
            got = f"{features.dtype} {tuple(features.shape)}"
            raise InputError(f"features must be integers of shape (O, F), got {got}")
        distinct = [column.unique() for column in features.long().unbind(1)]
        varying = [(column, values) for column, values in enumerate(distinct) if len(values) > 1]
        if not varying:
            raise InputError(f"expected features of which a column varies, got {len(features)} equal rows")
        self.width = features.shape[1]
        # input w is on where column columns[w] has the value values[w]
        self.columns = torch.cat([torch.full_like(values, column) for column, values in varying])
        self.values = torch.cat([values for _, values in varying])

    def __call__(self, features: Tensor) -> Tensor:
        """Return the inputs of the network, (O, W) float32, of rows of features.

        A value that the features given at the start did not have turns no input on.
        """
        if features.ndim != 2 or features.shape[1] != self.width:
            raise InputError(f"features must have shape (O, {self.width}), got {tuple(features.shape)}")
        return (features.long()[:, self.columns] == self.values).float()
