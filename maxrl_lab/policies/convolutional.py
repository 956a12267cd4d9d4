"""Convolutional policies: one that reads a whole level in one pass, one that reads single observations."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.functional import relu


class FullyConvolutional(nn.Module):
    """From a level's planes (B, P, h, w) to logits for every cell of it, (B h w, A), in one pass.

    3 x 3 convolutions with residual connections; their dilations 1, 2, 4, ... widen the receptive field until every
    cell sees all of a level with `size` cells a side.
    """

    def __init__(self, planes: int, actions: int, size: int, channels: int = 16) -> None:
        super().__init__()
        self.dilations = covering_dilations(size)
        self.first = nn.Conv2d(planes, channels, 3, padding=1)
        self.middle = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation) for dilation in self.dilations
        )
        self.last = nn.Conv2d(channels, actions, 1)

    @property
    def receptive_field(self) -> int:
        """Cells along a side of the square that one cell's logits depend on."""
        return 1 + 2 * (1 + sum(self.dilations))

    def forward(self, levels: Tensor) -> Tensor:
        """Return logits (B h w, A), cells in row-major order."""
        hidden = relu(self.first(levels))
        for layer in self.middle:
            hidden = hidden + relu(layer(hidden))
        logits: Tensor = self.last(hidden)
        return logits.movedim(1, -1).flatten(0, 2)


def covering_dilations(size: int) -> Sequence[int]:
    """Return dilations 1, 2, 4, ... whose receptive field reaches from any cell of a square to any other."""
    dilations = [1]
    while 1 + sum(dilations) < size - 1:
        dilations.append(2 * dilations[-1])
    return tuple(dilations)


def small_cnn(planes: int, size: int, actions: int, channels: int = 16) -> nn.Sequential:
    """Return a network from single observations (O, planes, size, size) to logits (O, actions)."""
    return nn.Sequential(
        nn.Conv2d(planes, channels, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(channels, channels, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(channels * size * size, actions),
    )
