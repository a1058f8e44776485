"""Checkpoint folder → a frozen transformers model and its processor, or a refusal."""

import importlib.util
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from relope.errors import InvalidInputError, RelopeError, UnsupportedError, reason_of
from relope.extract.model.adapter import merged
from relope.extract.model.checkpoint import Checkpoint
from relope.extract.model.devices import check_device
from relope.extract.model.interfaces import Model, Processor
from relope.extract.model.traits import tokenizer_of
from relope.extract.model.weights import check_complete, reports_unprinted

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
REFUSED = dict.fromkeys(
    ("Gemma3nForConditionalGeneration", "Gemma3nForCausalLM"), "its hidden states have a fourth dimension"
)
"""Class → why it is refused."""

QUANTIZATIONS = ("4bit", "8bit")


@dataclass(frozen=True)
class Loading:
    """How weights are put in place.

    Attributes:
        device: where the model runs; with ``spread`` where its inputs go.
        dtype: of the weights and the computation.
        attention: attention implementation.
        spread: let accelerate put the blocks on all devices.
        quantize: ``""``, ``4bit`` or ``8bit``.
        pixels: see ``Card``.
        chat_template: text of the one that takes the place of the checkpoint's, ``""`` = that.
        weights: False builds a skeleton on the meta device.
    """

    device: torch.device
    dtype: torch.dtype
    attention: str = "sdpa"
    spread: bool = False
    quantize: str = ""
    pixels: tuple[int, ...] = ()
    chat_template: str = ""
    weights: bool = True

    @property
    def dtype_name(self) -> str:
        """``float32`` or ``bfloat16``."""
        return str(self.dtype).removeprefix("torch.")


def load(name: str, files: Checkpoint, how: Loading) -> tuple[Model, Processor]:
    """Return the model, frozen and in eval mode, and its processor (a tokenizer for a text-only model).

    Raises:
        UnsupportedError: a class whose states would be captured wrongly, or files that do not load.
        InvalidInputError: quantization without bitsandbytes or CUDA, or weights that do not fit into memory.
        NotFoundError: the checkpoint lacks the adapter that it needs.
    """
    check_quantize(how, files.adapters)
    try:
        return _load(name, files, how)
    except torch.cuda.OutOfMemoryError as error:
        raise InvalidInputError(
            f"model {name} does not fit into the memory of {how.device}",
            hint="use --dtype bfloat16, --quantize 4bit or --device-map auto",
        ) from error
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        if isinstance(error, RelopeError):
            raise
        raise UnsupportedError(f"cannot load model {name} from {files.folder}: {reason_of(error)}") from error


def _load(name: str, files: Checkpoint, how: Loading) -> tuple[Model, Processor]:
    import transformers

    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    _check_code(name, files.folder / "config.json")
    config = transformers.AutoConfig.from_pretrained(files.folder, trust_remote_code=False)
    _check_config(name, config)
    multimodal = type(config) in transformers.AutoModelForMultimodalLM._model_mapping
    if not multimodal and type(config) not in transformers.AutoModelForCausalLM._model_mapping:
        raise UnsupportedError(f"model {name} ({type(config).__name__}) is refused: its class generates no text")
    model = _build(name, files.folder, config, how, multimodal)
    with files.processor_folder() as folder:
        processor = _processor(folder, how.pixels, multimodal)
    _prepare(name, processor, how.chat_template)
    for adapter in files.adapters if how.weights else ():
        model = merged(model, adapter)
    _check_structure(name, model)
    mend(model)
    if how.weights and not how.spread and not how.quantize:
        model = model.to(how.device)
    return model.eval().requires_grad_(False), processor


def _check_code(name: str, path: Path) -> None:
    """Refuse a class that comes as code beside the checkpoint: such code is never run.

    Raises:
        UnsupportedError: the configuration names code for a class that transformers does not have.
    """
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    config = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    named = config.get("auto_map") if isinstance(config, dict) else None
    if named and config.get("model_type") not in CONFIG_MAPPING:
        raise UnsupportedError(
            f"model {name} is refused: its class {config.get('model_type')!r} is code beside the checkpoint "
            f"(auto_map in {path.name}), which is never run",
            hint="give a checkpoint whose class transformers has; the hub often holds one ending in -hf",
        )


def _build(name: str, folder: Path, config: Any, how: Loading, multimodal: bool) -> Model:
    import transformers

    factory: Any = transformers.AutoModelForMultimodalLM if multimodal else transformers.AutoModelForCausalLM
    if not how.weights:
        with torch.device("meta"):
            skeleton: Model = factory.from_config(
                config, dtype=how.dtype, attn_implementation=how.attention, trust_remote_code=False
            )
        if (folder / "generation_config.json").is_file() and skeleton.generation_config is not None:
            skeleton.generation_config = transformers.GenerationConfig.from_pretrained(folder)
        return skeleton
    settings: dict[str, Any] = {}
    if how.quantize:
        four = how.quantize == "4bit"
        make: Any = transformers.BitsAndBytesConfig
        settings["quantization_config"] = make(
            load_in_4bit=four, load_in_8bit=not four, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=how.dtype
        )
    if how.spread or how.quantize:
        settings["device_map"] = "auto" if how.spread else {"": how.device}
    with reports_unprinted():
        model, report = factory.from_pretrained(
            folder,
            dtype=how.dtype,
            attn_implementation=how.attention,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # so that they are in the report, by which they are refused
            trust_remote_code=False,
            **settings,
        )
    check_complete(name, model, report)
    return model


def _processor(folder: Path, pixels: tuple[int, ...], multimodal: bool) -> Processor:
    import transformers

    opener: Any = transformers.AutoProcessor if multimodal else transformers.AutoTokenizer
    budget = {"min_pixels": pixels[0], "max_pixels": pixels[1]} if pixels and multimodal else {}
    processor: Processor = opener.from_pretrained(folder, trust_remote_code=False, **budget)
    if multimodal and not processor.chat_template:
        processor.chat_template = tokenizer_of(processor).chat_template  # Phi-4's processor drops it
    return processor


def _prepare(name: str, processor: Processor, chat_template: str) -> None:
    """Make a tokenizer fit for batches of conversations.

    Raises:
        UnsupportedError: the checkpoint has no chat template.
    """
    tokenizer: Any = tokenizer_of(processor)
    if chat_template:
        processor.chat_template = chat_template
    if not processor.chat_template:
        raise UnsupportedError(
            f"model {name} has no chat template, so it was not taught to answer; give its instruction-tuned version",
            hint="or say how it is asked: --chat-template plain, or a file of your own, and --stop where answers end",
        )
    if tokenizer.pad_token is None:  # as in Llama's checkpoints; padding is masked, so any token will do
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
    # Prompts that are too long are skipped and named by us; transformers would warn of them too.
    tokenizer.deprecation_warnings["sequence-length-is-longer-than-the-specified-maximum"] = True


def check_quantize(how: Loading, adapters: Sequence[Path]) -> None:
    """Refuse a quantization that cannot work here.

    Args:
        how: the model is loaded.
        adapters: what would have to be merged.

    Raises:
        InvalidInputError: bitsandbytes or CUDA is missing, or a LoRA would have to be merged.
    """
    if not how.quantize:
        return
    if how.quantize not in QUANTIZATIONS:
        raise InvalidInputError(f"unknown quantization {how.quantize!r} (there is: {', '.join(QUANTIZATIONS)})")
    if adapters:
        raise InvalidInputError(
            f"this model needs its {adapters[0].name} merged, which weights in {how.quantize} do not allow",
            hint="drop --quantize",
        )
    if importlib.util.find_spec("bitsandbytes") is None:
        raise InvalidInputError(
            f"weights in {how.quantize} need bitsandbytes, which is not installed",
            hint="pip install 'relope[quantize]'",
        )
    if how.device.type != "cuda":
        raise InvalidInputError(
            f"weights in {how.quantize} need a CUDA device (got {how.device})", hint="drop --quantize"
        )


def _check_config(name: str, config: Any) -> None:
    architecture = (config.architectures or ["?"])[0]
    if reason := REFUSED.get(architecture):
        raise UnsupportedError(
            f"model {name} ({architecture}) is refused: {reason}", hint="`relope list models` names others"
        )
    if getattr(config, "is_encoder_decoder", False):
        raise UnsupportedError(f"model {name} ({architecture}) is refused: it is an encoder-decoder, not a decoder")


def _check_structure(name: str, model: Model) -> None:
    """Refuse a model without the modules that the hooks stand on."""
    what = f"model {name} ({type(model).__name__}) is refused"
    finder = getattr(model, "get_decoder", None)
    decoder = finder() if finder else None
    blocks = getattr(decoder, "layers", None)
    if not isinstance(blocks, nn.ModuleList) or not len(blocks):
        raise UnsupportedError(f"{what}: its decoder has no list of blocks under `layers`")
    if not isinstance(getattr(decoder, "norm", None), nn.Module):
        raise UnsupportedError(f"{what}: its decoder has no final `norm`")


def mend(model: Model) -> None:
    """Undo what would give wrong states: a fault of transformers 5.23, and a setting of Gemma's checkpoints.

    An image that fills its crops turns Phi-4's vision tower causal. A static cache, which a generation
    config may ask for, makes ``generate()`` compile the model on CUDA, hooks and all.
    """
    if model.generation_config is not None:
        model.generation_config.cache_implementation = None
    for module in model.modules():
        if type(module).__name__ == "Phi4MultimodalVisionAttention":
            module.is_causal = False


def pick_device(name: str) -> torch.device:
    """Return the device of a name; ``auto`` is CUDA where there is one.

    Under ``torchrun`` CUDA without a number is the card of this process.

    Raises:
        InvalidInputError: there is no such device here.
    """
    check_device(name)
    device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)
    if device.type == "cuda" and device.index is None and "LOCAL_RANK" in os.environ:
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InvalidInputError(
            f"device {str(device)!r} is not here ({torch.cuda.device_count()} CUDA devices)", hint="try --device cpu"
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
