"""Backbones: one file each, a ``CARD`` that says where a model is and which layer to read.

Any other checkpoint folder or hub id goes the same generic way; ``open_card`` gives it a card.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relope import registry
from relope.errors import InvalidInputError, NotFoundError, reason_of, unknown

PACKAGE = "package:"
"""What the source of an embedded model begins with."""


@dataclass(frozen=True)
class Card:
    """Where a model is and how it is usually read.

    Attributes:
        source: ``package:<folder>`` (embedded), a folder, or a hub id ``owner/name``.
        n_blocks: decoder blocks; 0 = read it from the configuration.
        layer: the layer l that probes read; 0 = half the depth.
        batch_size: samples in one prefill.
        revision: hub revision that is asked for; what it resolves to is recorded.
        pixels: fewest and most pixels of an image, ``()`` = as the processor has it.
        adapter: folder of a LoRA within the checkpoint that is merged into the weights.
    """

    source: str
    n_blocks: int = 0
    layer: int = 0
    batch_size: int = 16
    revision: str = ""
    pixels: tuple[int, int] | tuple[()] = ()
    adapter: str = ""

    @property
    def embedded(self) -> bool:
        """Whether the model comes with this package."""
        return self.source.startswith(PACKAGE)


def open_card(name: str) -> Card:
    """Return the card of a model by CLI name, checkpoint folder or hub id.

    The hub id of a model that has a name gives the same card as the name.

    Raises:
        NotFoundError: it is neither.
    """
    if name in registry.names("backbones"):
        card = registry.load("backbones", name).CARD
        if not isinstance(card, Card):
            raise InvalidInputError(f"the plug-in of model {name!r} exports no CARD of type Card")
        return card
    if any((Path(name) / file).is_file() for file in ("config.json", "adapter_config.json")):
        return Card(source=str(Path(name).resolve()))
    if Path(name).exists():
        raise NotFoundError(
            f"{name} holds no config.json and no adapter_config.json",
            hint="--model takes a folder of a checkpoint or of a PEFT adapter, a hub id or a name",
        )
    if name.count("/") == 1 and not name.startswith((".", "/")):
        named = (registry.load("backbones", other).CARD for other in registry.names("backbones"))
        return next((card for card in named if card.source == name), Card(source=name))
    hint = (
        "--model also takes a checkpoint folder or a hub id like Qwen/Qwen2.5-VL-7B-Instruct, "
        "with --endpoint URL any name there"
    )
    raise unknown("model", name, registry.names("backbones"), hint)


def recorded_model(recorded: Mapping[str, Any]) -> str:
    """Return what to open the model of a store by: a folder is found from everywhere, not only where the run began."""
    source = Path(str(recorded.get("source", "")))
    return str(source) if source.is_absolute() and source.is_dir() else str(recorded.get("model", ""))


def locate(card: Card, *, weights: bool = True) -> tuple[Path, str]:
    """Return the local folder of a model and the hub revision it came from (``""`` if local).

    Args:
        card: which model.
        weights: False fetches the configuration and the processor alone.

    Raises:
        NotFoundError: the hub does not have it, or cannot be reached.
    """
    if card.embedded:
        return Path(__file__).parents[2] / "tiny" / "checkpoints" / card.source.removeprefix(PACKAGE), ""
    if Path(card.source).is_dir():
        return Path(card.source), ""
    from huggingface_hub import snapshot_download

    patterns = ["*.json", "*.jinja", "*.model", "*.txt", *(["*.safetensors"] if weights else [])]
    try:
        folder = snapshot_download(
            card.source,
            revision=card.revision or None,
            allow_patterns=patterns,
            ignore_patterns=["speech-lora/*", "original/*", "onnx/*"],
        )
    except Exception as error:
        raise NotFoundError(
            f"cannot fetch model {card.source!r}: {reason_of(error)}",
            hint="check the name, accept its licence on the hub and log in, or give a local checkpoint folder",
        ) from error
    return Path(folder), Path(folder).name
