"""An opened model with its processor: questions in, model inputs and modules out."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from relope.errors import InvalidInputError, UnsupportedError
from relope.extract import prompts
from relope.extract.backbones import Card, locate, open_card
from relope.provenance import folder_digest
from relope.types import Sample

log = logging.getLogger(__name__)
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
MODEL_FILES = ("config.json", "*.safetensors", "*.safetensors.index.json")
PROCESSOR_FILES = (
    "preprocessor_config.json", "processor_config.json", "tokenizer*", "special_tokens_map.json", "vocab.*",
    "merges.txt", "chat_template*",
)  # fmt: skip
REFUSED = {"Gemma3nForConditionalGeneration": "its hidden states have a fourth dimension"}


@dataclass(frozen=True)
class Backbone:
    """A frozen model, ready to answer.

    Attributes:
        name: what the user called it.
        model: the transformers model in eval mode.
        processor: its processor (or tokenizer, for a text-only model).
        card: where it came from.
        identity: everything that keys a store's recipe.
        recorded: what is worth knowing but does not key it.
    """

    name: str
    model: Any
    processor: Any
    card: Card
    identity: dict[str, Any]
    recorded: dict[str, Any]

    @property
    def decoder(self) -> Any:
        """The text decoder: its ``layers``, ``norm`` and ``rotary_emb``."""
        return self.model.get_decoder()

    @property
    def blocks(self) -> nn.ModuleList:
        return self.decoder.layers  # type: ignore[no-any-return]

    @property
    def hidden_size(self) -> int:
        return int(self.model.config.get_text_config().hidden_size)

    @property
    def device(self) -> torch.device:
        return self.model.device  # type: ignore[no-any-return]

    @property
    def dtype(self) -> torch.dtype:
        return self.model.dtype  # type: ignore[no-any-return]

    @property
    def default_layer(self) -> int:
        return self.card.layer or max(1, len(self.blocks) // 2)

    def inputs(self, samples: Sequence[Sample], text_only: bool = False) -> dict[str, Tensor]:
        """Build the left-padded batch of a few samples, on the CPU.

        Raises:
            UnsupportedError: the samples have pictures that the model cannot see.
            InvalidInputError: a picture cannot be opened, or the prompt is too long.
        """
        texts, images = [], []
        for sample in samples:
            pictures = () if text_only else sample.pictures
            texts.append(self._render(prompt_text(sample, text_only), len(pictures)))
            images.append([_open(sample, place) for place in range(len(pictures))])
        if not any(images):
            batch = self._tokenize(texts)
        elif not hasattr(self.processor, "image_processor"):
            raise UnsupportedError(f"model {self.name} is text-only but the samples have pictures; add --text-only")
        else:
            batch = self.processor(text=texts, images=images, padding=True, padding_side="left", return_tensors="pt")
        return self._checked(dict(batch), samples)

    def _tokenize(self, texts: list[str]) -> Any:
        return self.processor(text=texts, padding=True, padding_side="left", return_tensors="pt")

    def _render(self, text: str, n_pictures: int) -> str:
        content = [{"type": "image"}] * n_pictures + [{"type": "text", "text": text}]
        multimodal = hasattr(self.processor, "image_processor")
        message = {"role": "user", "content": content if multimodal else text}
        rendered: str = self.processor.apply_chat_template([message], add_generation_prompt=True, tokenize=False)
        return rendered

    def _checked(self, batch: dict[str, Tensor], samples: Sequence[Sample]) -> dict[str, Tensor]:
        limit = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        longest = batch["input_ids"].shape[1]
        if limit and longest > limit:
            raise InvalidInputError(
                f"a prompt of {longest} tokens is longer than the {limit} of {self.name}; its batch begins with "
                f"sample {samples[0].id!r}. Shorten the question or use smaller pictures"
            )
        return batch


def prompt_text(sample: Sample, text_only: bool) -> str:
    """Return the text of the user's turn; with ``text_only`` the caption comes first."""
    asked = prompts.build(sample.question, sample.choices, sample.hint)
    if not (text_only and sample.pictures):
        return asked
    if not sample.caption:
        raise InvalidInputError(f"sample {sample.id!r} has no caption to stand in for its picture; drop --text-only")
    return f"{sample.caption}\n{asked}"


def _open(sample: Sample, place: int) -> Any:
    try:
        return sample.pictures[place].open().convert("RGB")
    except (OSError, ValueError) as error:
        raise InvalidInputError(f"picture {place + 1} of sample {sample.id!r} cannot be opened: {error}") from error


def open_backbone(name: str, device: str = "auto", dtype: str = "auto", attention: str = "sdpa") -> Backbone:
    """Load a model by CLI name, folder or hub id; remote code is never run.

    Raises:
        NotFoundError: unknown name, or the hub cannot be reached.
        UnsupportedError: a class whose states would be captured wrongly.
        InvalidInputError: an unknown device or dtype.
    """
    card = open_card(name)
    folder, revision = locate(card)
    place = pick_device(device)
    kind = pick_dtype(dtype, place)
    model, processor = _load(name, folder, kind, attention)
    model = model.to(place).eval().requires_grad_(False)
    image_processor = getattr(processor, "image_processor", None)
    identity = {
        "model_files": folder_digest(folder, MODEL_FILES),
        "processor_files": folder_digest(folder, PROCESSOR_FILES),
        "image_processor": type(image_processor).__name__ if image_processor is not None else "",
        "compute_dtype": str(kind).removeprefix("torch."),
        "attention": attention,
    }
    recorded = {"model": name, "source": card.source, "revision": revision, "class": type(model).__name__,
                "device": str(place)}  # fmt: skip
    return Backbone(name, model, processor, card, identity, recorded)


def _load(name: str, folder: Path, dtype: torch.dtype, attention: str) -> tuple[Any, Any]:
    import transformers

    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        config = transformers.AutoConfig.from_pretrained(folder)
        architecture = (config.architectures or ["?"])[0]
        if reason := REFUSED.get(architecture):
            raise UnsupportedError(f"model {name} ({architecture}) is refused: {reason}")
        multimodal = type(config) in transformers.AutoModelForMultimodalLM._model_mapping
        factory = transformers.AutoModelForMultimodalLM if multimodal else transformers.AutoModelForCausalLM
        model = factory.from_pretrained(folder, dtype=dtype, attn_implementation=attention)
        opener = transformers.AutoProcessor if multimodal else transformers.AutoTokenizer
        processor = opener.from_pretrained(folder)
    except (OSError, ValueError, KeyError, ImportError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UnsupportedError(f"cannot load model {name} from {folder}: {reason}") from error
    if multimodal and not processor.chat_template:
        processor.chat_template = processor.tokenizer.chat_template  # Phi-4's processor drops it
    return model, processor


def pick_device(name: str) -> torch.device:
    """Return the device of a name; ``auto`` is CUDA where there is one.

    Raises:
        InvalidInputError: there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InvalidInputError(f"unknown device {name!r}; give auto, cpu, cuda or cuda:0") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InvalidInputError(
            f"device {name!r} is not here ({torch.cuda.device_count()} CUDA devices); try --device cpu"
        )
    return device


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """Return the compute dtype of a name; ``auto`` is bfloat16 on CUDA and float32 on a CPU.

    Raises:
        InvalidInputError: the name is none of ours; float16 overflows on Gemma.
    """
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    if name not in DTYPES:
        raise InvalidInputError(f"unknown dtype {name!r} (there is: auto, {', '.join(DTYPES)})")
    return DTYPES[name]
