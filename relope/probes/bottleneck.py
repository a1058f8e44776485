"""ReLope's head: a Gaussian bottleneck on block l's last-token output, and all that is learned."""

import torch
from torch import Tensor, nn

from relope.probes.heads import Standardize, initialize, mlp
from relope.probes.lora import Adapter


class Bottleneck(nn.Module):
    """μ and log σ² of a Gaussian code z of ``[B, H]`` states, and an MLP on z.

    Source: ReLope §4.2. Choice: log σ² within ±10, its bias starts at −4, input standardised.
    """

    def __init__(self, width: int, z: int) -> None:
        super().__init__()
        self.standardize = Standardize(width)
        self.mean = nn.Linear(width, z)
        self.logvar = nn.Linear(width, z)
        self.head = mlp(z)

    def start(self, generator: torch.Generator) -> None:
        """Draw the parameters."""
        initialize(self, generator)
        nn.init.constant_(self.logvar.bias, -4.0)

    def forward(self, states: Tensor, noise: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return logits ``[B]`` and KL divergences ``[B]`` in nats; without noise z = μ."""
        x = self.standardize(states.float())
        mean, logvar = self.mean(x), self.logvar(x).clamp(-10, 10)
        code = mean if noise is None else mean + (0.5 * logvar).exp() * noise
        divergence = 0.5 * (mean.square() + logvar.exp() - logvar - 1).sum(-1)
        logits: Tensor = self.head(code)[:, 0]
        return logits, divergence


class Learned(nn.Module):
    """All that is trained and saved: the bottleneck and the adapters (dots in names become ``/``)."""

    def __init__(self, bottleneck: Bottleneck, adapters: dict[str, Adapter]) -> None:
        super().__init__()
        self.bottleneck = bottleneck
        self.adapters = nn.ModuleDict({name.replace(".", "/"): adapter for name, adapter in adapters.items()})

    def named_adapters(self) -> dict[str, Adapter]:
        """Return the adapters by the dotted names of the layers they belong to."""
        parts = {name.replace("/", "."): part for name, part in self.adapters.items()}
        return {name: part for name, part in parts.items() if isinstance(part, Adapter)}
