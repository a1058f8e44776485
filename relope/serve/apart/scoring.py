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
from relope.extract.model.card import open_card
from relope.extract.model.checkpoint import find_checkpoint
from relope.extract.model.generate import STORED, token_columns, token_table
from relope.extract.model.parts import load_parts
from relope.probes.examples import Examples
from relope.probes.protocol import reads_of_answer
from relope.probes.router import Router
from relope.serve.apart.server import check_router, layers_of, reads_states_after
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
        layers: blocks whose states are handed over.
        before_answer: whether it scores before there is an answer.
        states_after: whether it reads states once there is one.
        of_answer: what it reads of an answer beside its text and log-probs.
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
        check_router(router, backbone)
        self.router, self.layer, self.backbone, self.device = router, layer, backbone, device
        self.layers = layers_of(router.probe, layer, len(backbone.blocks))
        self.before_answer = not router.probe.traits.reads_answer
        self.states_after = reads_states_after(router.probe, layer)
        self.of_answer = reads_of_answer(router.probe)
        if "states" in self.of_answer:  # of them the final norm is computed here
            files, dtype = find_checkpoint(open_card(backbone.name)), STORED[backbone.compute_dtype]
            load_parts(backbone.name, backbone.model, files.folder, (), dtype)
        self._folder, self._one_at_a_time = folder, threading.Lock()
        self._dtype = str(router.record.identity.get("stored_dtype") or backbone.compute_dtype)

    def at_prompt(self, prompt: Prompt, handed: Handed) -> float:
        """Return P(correct) of a prompt whose states were handed over."""
        return self._score(sample_columns(0, prompt), prompt.n_tokens, self._arrays(prompt, handed))

    def after(self, prompt: Prompt, said: Said, handed: Handed | None) -> float:
        """Return P(correct) of an answer.

        Args:
            prompt: what was asked.
            said: the answer; its entropies and its final state, where they are read.
            handed: states of the prompt, which those of the answer may follow; None where none are read.
        """
        known = answer_columns(said)
        if "entropies" not in self.of_answer:
            del known["entropies"]
        arrays = {} if handed is None else self._arrays(prompt, handed)
        arrays["answer"] = functools.partial(on_host, said.final[None], self._dtype)
        return self._score(sample_columns(0, prompt) | known, prompt.n_tokens, arrays)

    def _arrays(self, prompt: Prompt, handed: Handed) -> dict[str, Array]:
        """Return what is known of a prompt's tokens, as a store has it."""
        arrays: dict[str, Array] = {"tokens": lambda: self._tokens(prompt)}
        for layer, states in handed.blocks.items():
            of_prompt = states[: prompt.n_tokens]
            arrays[f"hidden/{layer}"] = functools.partial(on_host, of_prompt, self._dtype)
            arrays[f"last/{layer}"] = functools.partial(on_host, of_prompt[-1:], self._dtype)
        return arrays

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
