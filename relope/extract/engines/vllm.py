"""vLLM in a process of its own: many requests at once, states from its KV cache, traces from a cached prompt."""

import contextlib
import logging
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from relope.errors import InvalidInputError, OutputError, UnsupportedError
from relope.extract.engine import Computed, Engine, EngineError, Settings, Work
from relope.extract.extraction import Extraction
from relope.extract.model.card import locate, open_card
from relope.partial import partial_folder
from relope.vllm.command import ANY_IMAGES, Server, check_arguments, check_class, reads_images_whole, served_name
from relope.vllm.process import Process, check_python, free_port
from relope.vllm.states import StatesError, check_folder, default_folder, ready_folder, sweep
from relope.vllm.tokens import FLAGS, RefusedError, Served, ServerError, Tokens

if TYPE_CHECKING:
    from relope.extract.model.backbone import Backbone
    from relope.extract.served_answer import Listener

log = logging.getLogger(__name__)
VERSION = 1
EXACT = False
TAKES = ("vllm_python", "vllm_url", "vllm_argument", "vllm_states")
REFUSES: Mapping[str, str] = {
    "attn": "vLLM picks its own attention",
    "device": "vLLM picks its own devices",
    "device_map": "vLLM spreads a model by its own arguments",
    "quantize": "vLLM computes with quantized weights otherwise than transformers does",
}

AHEAD = 6
"""Batches that are in flight behind the one that is written."""

_SEALED = "what was sealed is kept"
_KEPT = f"{_SEALED}; the same command goes on from there"


def check(extraction: Extraction, settings: Settings) -> None:
    """Refuse a server that is not named, and a model whose states vLLM does not hand over.

    Raises:
        RelopeError: as it says.
    """
    python, url = settings["vllm_python"], settings["vllm_url"]
    if url is not None and (urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname):
        raise InvalidInputError(f"{url!r} is no URL of a server", hint="--vllm-url http://127.0.0.1:8001")
    if (python is None) == (url is None):
        given = "both are given" if python else "none is given"
        raise InvalidInputError(
            f"the engine vllm needs a Python with vLLM or the URL of a server, one of them ({given})",
            hint="--vllm-python DIR/bin/python starts a server; --vllm-url URL asks one that runs",
        )
    check_arguments(settings["vllm_argument"], url)
    states = settings["vllm_states"]
    if url and states and states.exists():
        check_folder(states)
    card = open_card(extraction.model.name)
    if card.embedded or Path(card.source).is_dir():
        _check_checkpoint(extraction.model.name, ())
    if python:
        check_python(python)


def open_engine(extraction: Extraction, settings: Settings) -> Engine:
    """Return the engine; the server is started when it is opened."""
    python, url, arguments, states = (settings[name] for name in TAKES)
    return _Vllm(extraction, python, url, arguments, states)


class _Vllm:
    def __init__(
        self,
        extraction: Extraction,
        python: str | None,
        url: str | None,
        arguments: Sequence[str],
        states: Path | None,
    ) -> None:
        self._extraction, self._python, self._arguments, self._states = extraction, python, arguments, states
        self._url = (url or "").rstrip("/").removesuffix("/v1")
        self._process: Process | None = None
        self._listener: Listener | None = None
        self._cleanup = contextlib.ExitStack()
        self._keeps_log = False
        self.identity: Mapping[str, Any] = {}
        self.recorded: Mapping[str, Any] = {}

    def open(self) -> "Backbone":
        from relope.extract.model.told import entropies_told
        from relope.extract.served_answer import Listener

        extraction = self._extraction
        backbone, handed = _described(extraction)
        name = served_name(extraction.model.name, backbone.identity, handed)
        folder = ready_folder(self._states or default_folder()).resolve() if self._url else self._private()
        listener = Listener(
            server=Tokens(self._url),
            folder=folder,
            backbone=backbone,
            layers=extraction.layers(backbone),
            handed=handed,
            max_new_tokens=extraction.max_new_tokens,
            stored=extraction.stored_dtype(backbone),
            extras=extraction.extras,
            stops=extraction.stops,
        )
        if not self._url:
            listener = replace(listener, server=Tokens(self._start(listener, name)))
        else:
            sweep(folder)
        served = self._served(listener, name)
        try:
            listener.check_states()
        except (ServerError, StatesError) as error:
            raise EngineError(f"vLLM: {error}", hint=error.hint) from error
        if extraction.extras.samples:
            listener.check_draws()
        traits = replace(backbone.traits, context=served.context - max(1, extraction.room(backbone)))
        self._listener = replace(listener, backbone=replace(backbone, traits=traits))
        told = entropies_told(backbone) if extraction.max_new_tokens else "whole"
        self.identity = {"engine": {"name": "vllm", "version": VERSION, "entropies": told}}
        self.recorded = {"vllm": served.version}
        return self._listener.backbone

    def compute(self, work: Work) -> Computed:
        from relope.extract.loop import run_units
        from relope.extract.served import ServedBatches

        assert self._listener is not None
        size = max(unit.batch_size for unit in work.units)
        pool = ThreadPoolExecutor(size * (AHEAD + 2), "relope-vllm")
        batches = ServedBatches(self._listener, pool, self._extraction.view.text_only)
        try:
            waited = run_units(
                batches,
                work.writer,
                work.units,
                work.samples,
                thumbnails=self._extraction.thumbnails,
                answered=work.counted(),
                ahead=AHEAD,
            )
        except (ServerError, StatesError) as error:
            raise self._died(error) from error
        finally:
            self._listener.over.set()
            pool.shutdown(wait=False, cancel_futures=True)
        return Computed(waited)

    def close(self) -> None:
        """End the server that was started here; its log stays where it has died."""
        if self._process is not None:
            self._process.end(keeps_log=self._keeps_log)
        self._cleanup.close()

    def _start(self, listener: "Listener", name: str) -> str:
        """Start a server and wait for it; return its URL."""
        server = _server(listener, name, self._extraction.view.text_only, port=free_port())
        server = replace(server, more=(*server.more, *self._arguments))
        assert self._python is not None
        log.info("starting vLLM: %s", server.line(self._python))
        try:
            self._process = Process(server, self._python)
            self._process.wait()
        except OutputError as error:
            raise EngineError(str(error), hint=error.hint) from error
        return self._process.url

    def _served(self, listener: "Listener", name: str) -> Served:
        """Return what a server says of itself.

        Raises:
            EngineError: it cannot be reached.
            InvalidInputError: it runs something else.
        """
        address = urlsplit(listener.server.url)
        host, port = address.hostname or "127.0.0.1", address.port or 80
        start = f"start it by: {_server(listener, name, self._extraction.view.text_only, host, port).line()}"
        try:
            served = listener.server.served()
        except ServerError as error:
            raise EngineError(str(error), hint=start) from error
        if served.name != name:
            raise InvalidInputError(
                f"the server at {listener.server.url} runs {served.name}, and this extraction needs {name}: the model, "
                "its dtype or the blocks that are handed over are other ones",
                hint=start,
            )
        return served

    def _died(self, error: ServerError | StatesError) -> EngineError:
        hints = [error.hint, _SEALED if isinstance(error, RefusedError) else _KEPT]  # what is refused is so again
        if self._process is not None:
            self._keeps_log = True
            hints.append(f"its log: {self._process.log}")
        return EngineError(f"vLLM: {error}", hint="; ".join(filter(None, hints)))

    def _private(self) -> Path:
        """Return a folder for states that goes with the engine; those that killed ones have left go now."""
        usual = self._states / f"relope-states-{os.getuid()}" if self._states else default_folder()
        try:
            folder = self._cleanup.enter_context(partial_folder(usual.parent.resolve() / usual.name))
            folder.chmod(0o700)
        except OSError as error:
            raise OutputError(f"{usual.parent} cannot hold states: {error.strerror or error}") from error
        return folder


def _server(listener: "Listener", name: str, text_only: bool, host: str = "127.0.0.1", port: int = 8001) -> Server:
    """Return the server that an extraction needs."""
    backbone = listener.backbone
    sees, pixels = backbone.traits.sees_images and not text_only, backbone.card.pixels
    folder, _ = locate(backbone.card)
    return Server(
        checkpoint=str(folder),
        name=name,
        layers=listener.handed,
        dtype=backbone.compute_dtype,
        folder=listener.folder,
        host=host,
        port=port,
        images=ANY_IMAGES if sees else 0,
        processor={"min_pixels": pixels[0], "max_pixels": pixels[1]} if pixels and sees else None,
        whole_images=sees and reads_images_whole(folder),
        more=(*FLAGS, "--max-logprobs", str(listener.top)),
    )


def _described(extraction: Extraction) -> "tuple[Backbone, tuple[int, ...]]":
    """Return a model without weights but for what is read here, and the blocks that a server shall hand over."""
    from relope.extract.model.load import pick_device, pick_dtype
    from relope.extract.model.parts import load_parts

    choice = extraction.model
    dtype = pick_dtype(choice.dtype, pick_device("auto"))
    backbone = choice.described(str(dtype).removeprefix("torch."))
    layers = extraction.layers(backbone)
    handed = tuple(sorted({*layers, len(backbone.blocks)} if extraction.max_new_tokens else layers))
    folder = _check_checkpoint(choice.name, handed)
    _check_generation(backbone)
    load_parts(choice.name, backbone.model, folder, [max(layers)], dtype)
    return backbone, handed


def _check_checkpoint(name: str, layers: tuple[int, ...]) -> Path:
    """Return the folder of a checkpoint that vLLM gives the states of.

    Raises:
        UnsupportedError: it gives none of that class or of those blocks, or an adapter would have to be merged.
    """
    card = open_card(name)
    folder, _ = locate(card)
    if card.adapter or (folder / "adapter_config.json").is_file():
        raise UnsupportedError(
            f"model {name} has an adapter merged into its weights, which a vLLM server would not have",
            hint="merge it into a checkpoint folder, or drop --engine vllm",
        )
    try:
        check_class(folder, name, layers)
    except UnsupportedError as error:
        raise UnsupportedError(str(error), hint="drop --engine vllm") from error
    return folder


_MEANT = {
    "bos_token_id", "eos_token_id", "pad_token_id", "do_sample", "temperature", "top_k", "top_p", "min_p", "typical_p",
    "repetition_penalty", "max_length", "max_new_tokens", "use_cache", "cache_implementation", "cache_config",
    "output_attentions", "output_hidden_states", "output_scores", "output_logits", "return_dict_in_generate",
    "transformers_version", "_from_model_config", "trust_remote_code", "disable_compile",
}  # fmt: skip
"""Settings of a checkpoint's generation that say nothing of a greedy answer, or that the server is told."""


def _check_generation(backbone: "Backbone") -> None:
    """Refuse settings of a checkpoint's greedy generation that the server is not told.

    Raises:
        UnsupportedError: as it says.
    """
    config = backbone.model.generation_config
    more = sorted(set(config.to_diff_dict()) - _MEANT) if config is not None else []
    if more:
        raise UnsupportedError(
            f"the generation settings of {backbone.name} ask for {', '.join(more)}, which vLLM is not told",
            hint="drop --engine vllm",
        )
