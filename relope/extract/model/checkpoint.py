"""Where a model's files lie: one checkpoint folder, or an adapter's folder and that of its base."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from relope.errors import NotFoundError, UnsupportedError
from relope.extract.model.adapter import adapter_digest, base_of, is_adapter
from relope.extract.model.card import Card, locate, open_card
from relope.provenance import digest, file_digest, folder_digest

MODEL_FILES = ("config.json", "generation_config.json", "*.safetensors", "*.safetensors.index.json")
ADAPTER_FILES = ("adapter_config.json", "*.safetensors")
TEMPLATE_FILES = ("chat_template*",)
TOKENIZER_FILES = ("tokenizer*", "special_tokens_map.json", "vocab.*", "merges.txt")
IMAGE_FILES = ("preprocessor_config.json", "processor_config.json")
PREPARES = {"chat template": TEMPLATE_FILES, "image processor": IMAGE_FILES, "tokenizer": TOKENIZER_FILES}
"""What messages call a group of files → the group."""

PROCESSOR_FILES = (*IMAGE_FILES, *TOKENIZER_FILES, *TEMPLATE_FILES)


@dataclass(frozen=True)
class Checkpoint:
    """The files of a model.

    Attributes:
        card: of the model; for an adapter its base's, under the adapter's own source.
        folder: of configuration and weights.
        revision: hub revision that the named repository resolved to, ``""`` if it is a folder.
        adapters: folders of what is merged into the weights, in this order.
        peft: the adapter folder that was named as the model; None where a whole checkpoint was.
        base: source and revision of the adapter's base; empty without one.
    """

    card: Card
    folder: Path
    revision: str
    adapters: tuple[Path, ...] = ()
    peft: Path | None = None
    base: dict[str, str] = field(default_factory=dict)

    @property
    def model_files(self) -> str:
        """Digest of configuration and weights."""
        return folder_digest(self.folder, MODEL_FILES)

    @property
    def adapter_files(self) -> str:
        """Digest of what is merged, ``""`` where nothing is."""
        digests = [
            adapter_digest(folder) if folder == self.peft else folder_digest(folder, ADAPTER_FILES)
            for folder in self.adapters
        ]
        return digests[0] if len(digests) == 1 else digest(digests) if digests else ""

    @property
    def processor_files(self) -> str:
        """Digest of the files that make tokens and pixels."""
        return digest([[path.name, file_digest(path)] for path in self._processor()])

    @property
    def processor_parts(self) -> dict[str, str]:
        """Digest of each group of the files that make tokens and pixels, under what messages call it."""
        files, parts = self._processor(), {}
        for part, group in PREPARES.items():
            own = [[path.name, file_digest(path)] for path in files if any(path.match(name) for name in group)]
            parts[part] = digest(own)
        return parts

    @contextmanager
    def processor_folder(self) -> Iterator[Path]:
        """Give a folder that the processor is opened from: an adapter's own tokenizer goes before its base's."""
        files = self._processor()
        if all(path.parent == self.folder for path in files):
            yield self.folder
            return
        with TemporaryDirectory(prefix="relope-processor-") as made:
            for path in (self.folder / "config.json", *files):
                shutil.copy(path, Path(made) / path.name)
            yield Path(made)

    def _processor(self) -> list[Path]:
        """Return the processor's files by name; those of an adapter come in whole groups, so that none are mixed."""
        kept = {path.name: path for path in _files(self.folder, PROCESSOR_FILES)}
        if self.peft is None:
            return [kept[name] for name in sorted(kept)]
        for own, group in (
            (("tokenizer.json", "tokenizer_config.json"), TOKENIZER_FILES),
            (IMAGE_FILES, IMAGE_FILES),
            (TEMPLATE_FILES, TEMPLATE_FILES),
        ):
            if _files(self.peft, own):
                replaced = {path.name for path in _files(self.folder, group)}
                kept = {name: path for name, path in kept.items() if name not in replaced}
                kept |= {path.name: path for path in _files(self.peft, group)}
        return [kept[name] for name in sorted(kept)]


def _files(folder: Path, patterns: tuple[str, ...]) -> list[Path]:
    return sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()})


def known_adapters(card: Card) -> list[Path]:
    """Return the adapters that a card tells of before anything is fetched."""
    named = Path(card.source)
    return [Path(card.adapter)] if card.adapter else [named] if named.is_dir() and is_adapter(named) else []


def find_checkpoint(card: Card, *, weights: bool = True) -> Checkpoint:
    """Return where a model's files lie, fetched where they are on the hub.

    Args:
        card: which model.
        weights: False fetches the configuration and the processor alone.

    Raises:
        NotFoundError: the hub does not have it, or cannot be reached; or an adapter's base is not here.
        UnsupportedError: an adapter beside a model's own weights, without a base, or on an adapter.
    """
    folder, revision = locate(card, weights=weights)
    if not is_adapter(folder):
        return Checkpoint(card, folder, revision, (folder / card.adapter,) if card.adapter else ())
    base = _base_card(folder)
    below, base_revision = locate(base, weights=weights)
    if is_adapter(below):
        raise UnsupportedError(
            f"the base {below} of the adapter {folder} is an adapter itself",
            hint="merge one of them into a checkpoint folder first",
        )
    return Checkpoint(
        card=replace(base, source=card.source),
        folder=below,
        revision=revision,
        adapters=(*((below / base.adapter,) if base.adapter else ()), folder),
        peft=folder,
        base={"source": base.source, "revision": base_revision},
    )


def _base_card(adapter: Path) -> Card:
    named, revision = base_of(adapter)
    try:
        card = open_card(named)
    except NotFoundError as error:
        raise NotFoundError(
            f"the adapter {adapter} was trained on {named!r}, which is not here",
            hint="write the base's folder or hub id into base_model_name_or_path of its adapter_config.json",
        ) from error
    return replace(card, revision=revision) if revision and not Path(card.source).is_dir() else card
