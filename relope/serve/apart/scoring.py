"""A bundle's router on states that a server has handed over: the scores that `relope predict` would give them."""

import functools
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from relope.extract.model.backbone import Backbone
from relope.extract.model.generate import token_columns, token_table
from relope.probes.examples import Examples
from relope.probes.router import Router
from relope.serve.apart.server import check_router, layers_of
from relope.serve.local.prompts import Prompt
from relope.serve.local.scoring import COLUMN_TYPES, Said, answer_columns, on_host, sample_columns
from relope.store import StoreManifest
from relope.store.live import Array, LiveStates
from relope.vllm.states import Handed


class HandedStates(LiveStates):
    """States of queries, with the weights of block l that lie in the bundle."""

    folder: Path

    def block_folder(self, layer: int) -> Path:
        """Return the bundle's copy of a block."""
        return self.folder / f"block_{layer}"


class HandedScorer:
    """A router, ready to score what a server hands over; any thread may ask it.

    Attributes:
        layers: blocks whose states it reads.
        before_answer: whether it scores before there is an answer.
    """

    def __init__(self, router: Router, layer: int, backbone: Backbone, folder: Path, device: str) -> None:
        """Open a bundle's router.

        Args:
            router: of the bundle.
            layer: the block l that it reads.
            backbone: the model without its weights, for what is known of its prompts' tokens.
            folder: of the bundle, where block l lies where the router runs it.
            device: that the router runs on.

        Raises:
            UnsupportedError: it reads what no server hands over.
        """
        check_router(router)
        self.router, self.layer, self.backbone, self.device = router, layer, backbone, device
        self.layers = layers_of(router.probe, layer)
        self.before_answer = not router.probe.traits.reads_answer
        self._folder, self._one_at_a_time = folder, threading.Lock()
        self._dtype = str(router.record.identity.get("stored_dtype") or backbone.compute_dtype)

    def at_prompt(self, prompt: Prompt, handed: Handed) -> float:
        """Return P(correct) of a prompt whose states were handed over."""
        arrays: dict[str, Array] = {"tokens": lambda: self._tokens(prompt)}
        for layer, states in handed.blocks.items():
            arrays[f"hidden/{layer}"] = functools.partial(on_host, states, self._dtype)
            arrays[f"last/{layer}"] = functools.partial(on_host, states[-1:], self._dtype)
        return self._score(sample_columns(0, prompt), prompt.n_tokens, arrays)

    def after(self, prompt: Prompt, said: Said) -> float:
        """Return P(correct) of an answer, of which text and log-probs are known."""
        known = answer_columns(said)
        del known["entropies"]
        return self._score(sample_columns(0, prompt) | known, prompt.n_tokens, {})

    def _tokens(self, prompt: Prompt) -> npt.NDArray[Any]:
        mask = torch.ones_like(prompt.ids, dtype=torch.bool)
        table: npt.NDArray[Any] = token_table(
            self.backbone, prompt.inputs, self.backbone.positions(prompt.inputs), mask
        ).numpy()
        return table

    def _score(self, row: Mapping[str, Any], n_tokens: int, arrays: Mapping[str, Array]) -> float:
        types = {name: kind for name, kind in COLUMN_TYPES.items() if name in row}
        frame = pl.DataFrame([dict(row)], schema_overrides=types)
        states = HandedStates(self._manifest, frame, np.array([n_tokens], np.int64), arrays)
        states.folder = self._folder
        examples = Examples(states, np.arange(1), None, self.layer, None, self.device)
        with self._one_at_a_time, torch.inference_mode():
            return float(self.router.probe.predict_proba(examples)[0])

    @functools.cached_property
    def _manifest(self) -> StoreManifest:
        return StoreManifest(
            identity=self.router.record.identity,  # type: ignore[arg-type]
            layers=self.layers,
            hidden_size=self.backbone.hidden_size,
            dtype=self._dtype,
            token_columns=token_columns(self.backbone),
        )
