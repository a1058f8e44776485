"""Network heads shared by the trained methods."""

import itertools
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

MLP_WIDTHS = (512, 256, 128, 64)
"""Hidden widths of the paper's five-layer MLP. Choice: the paper gives the depth only."""


class Standardize(nn.Module):
    """Centres and scales features with statistics of the training split (buffers, not learned)."""

    mean: Tensor
    scale: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))

    def learn(self, features: npt.NDArray[np.float32] | Iterable[npt.NDArray[np.float32]]) -> None:
        """Take mean and standard deviation over ``[N, width]``, given whole or in pieces.

        A constant feature stays as it is.
        """
        pieces = iter([features] if isinstance(features, np.ndarray) else features)
        first = next(pieces)
        shift = first[:1].astype(np.float64)  # sums of squares are taken around it: large means drown no spread
        n, total, squares = 0, np.zeros(len(self.mean)), np.zeros(len(self.mean))
        for piece in itertools.chain([first], pieces):
            moved = piece - shift
            n, total, squares = n + len(moved), total + moved.sum(axis=0), squares + np.square(moved).sum(axis=0)
        average = total / n
        deviation = np.sqrt(np.maximum(squares / n - np.square(average), 0))
        deviation[deviation < 1e-6] = 1.0
        self.mean.copy_(torch.from_numpy(average + shift[0]))
        self.scale.copy_(torch.from_numpy(1 / deviation))

    def forward(self, features: Tensor) -> Tensor:
        return (features - self.mean) * self.scale


def mlp(width: int, hidden: Sequence[int] = MLP_WIDTHS) -> nn.Sequential:
    """Build width → hidden… → 1 with ReLU between; no hidden width makes it logistic regression."""
    sizes, layers = [width, *hidden], list[nn.Module]()
    for before, after in itertools.pairwise(sizes):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], 1))


def seeded(seed: int) -> torch.Generator:
    """Return a CPU generator; parameters are always drawn on the CPU so that devices agree."""
    return torch.Generator().manual_seed(seed)


def initialize(module: nn.Module, generator: torch.Generator) -> None:
    """Draw every linear layer anew from a generator, with PyTorch's own distribution."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            bound = layer.in_features**-0.5
            nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
            nn.init.uniform_(layer.bias, -bound, bound, generator=generator)


def to_numpy(module: nn.Module) -> dict[str, npt.NDArray[np.float32]]:
    """Return the module's parameters and buffers as arrays."""
    return {name: tensor.detach().cpu().numpy() for name, tensor in module.state_dict().items()}


def from_numpy(module: nn.Module, tensors: dict[str, npt.NDArray[np.float32]]) -> None:
    """Load what ``to_numpy`` returned."""
    module.load_state_dict({name: torch.from_numpy(np.array(tensor)) for name, tensor in tensors.items()})


def to_device(tensor: Tensor, device: torch.device | str) -> Tensor:
    """Return a CPU tensor on a device; a copy to CUDA goes through pinned memory and is not waited for."""
    if torch.device(device).type != "cuda":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)
