"""A checkpoint's weights held against its class: what is missing, of another shape, or has no place."""

import logging
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from relope.errors import UnsupportedError
from relope.extract.model.interfaces import Model

_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")
_SHOWN = 3
_HINT = "get the whole checkpoint, or the config.json that belongs to it"


def check_complete(name: str, model: Model, report: Mapping[str, Any]) -> None:
    """Refuse a checkpoint whose files do not hold exactly the weights of its class.

    transformers fills a gap with random numbers, other ones at each start, wherever it is. What may be absent is
    for the class to say, and the report leaves it out: tied weights, buffers that are computed, and keys that
    the class lists. Further weights are refused where they show that the class is another one than the model's.

    Args:
        name: of the model, for errors.
        model: as it was loaded.
        report: what ``from_pretrained(output_loading_info=True)`` says.

    Raises:
        UnsupportedError: weights are missing, are of another shape, or have no place in the class.
    """
    missing = sorted(report["missing_keys"])
    reshaped = sorted((key, tuple(held), tuple(asked)) for key, held, asked in report["mismatched_keys"])
    homeless = sorted(report["unexpected_keys"])
    strange = [] if getattr(model, "is_quantized", False) else _misfits(model, homeless)
    faults = []
    if missing:
        faults.append(f"lack {len(missing)} of its weights ({_first(missing)})")
    if reshaped:
        key, held, asked = reshaped[0]
        faults.append(f"have {len(reshaped)} in another shape (first: {key} {held}, not {asked})")
    if strange or (faults and homeless):
        shown = strange or homeless
        faults.append(f"hold {len(shown)} that {type(model).__name__} has no place for ({_first(shown)})")
    if faults:
        raise UnsupportedError(f"the files of model {name} {', and '.join(faults)}", hint=_HINT)


def _first(keys: Collection[str]) -> str:
    shown = ", ".join(list(keys)[:_SHOWN])
    return f"{shown}, …" if len(keys) > _SHOWN else shown


def _misfits(model: Model, keys: Collection[str]) -> list[str]:
    """Return the keys that a model of this class would have a place for, were it the right one.

    A further block, a bias or a norm within a block, a LoRA's matrix: with them the model computes something
    else. A head or a tower that the class leaves out altogether changes nothing of what it computes.
    """
    own = {_NUMBER.sub("#", key) for key in model.state_dict()}
    modules = {path for path, _ in model.named_modules() if path}
    return [key for key in keys if _NUMBER.sub("#", key) in own or _belongs(key, modules)]


def _belongs(key: str, modules: Collection[str]) -> bool:
    if "lora_" in key or ".base_layer." in key:
        return True
    number = _NUMBER.search(key)
    return key.rpartition(".")[0] in modules or (number is not None and key[: number.end()] in modules)


@contextmanager
def reports_unprinted() -> Iterator[None]:
    """Keep transformers from printing its table of a checkpoint's faults: they are told in one line, or are none."""
    logger = logging.getLogger("transformers")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
