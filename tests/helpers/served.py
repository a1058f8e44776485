"""Engines on any backbone: routers with drawn weights, and helpers that ask and wait."""

import asyncio
import contextlib

import torch

from relope.probes.features import FeatureNet
from relope.probes.heads import seeded
from relope.probes.lora import target_shapes
from relope.probes.protocol import make
from relope.probes.router import Router, RouterRecord
from relope.serve.engine import EngineSettings, Message, Query
from relope.serve.engines.transformers import TransformersEngine
from relope.serve.local.backbone import decoder
from relope.serve.local.prompt_batch import ServedModel
from relope.serve.local.scoring import Scorer


def drawn_router(method, backbone, layer, **settings):
    """A router of a method whose weights are drawn, not learned."""
    probe, width = make(method, settings), backbone.hidden_size
    if method in ("probe", "posthoc"):
        probe.net_ = FeatureNet(width if method == "probe" else width + 13, probe.head, seed=1)
        probe.net_.module.eval()
    elif method == "attention-probe":
        from relope.probes.heads import initialize
        from relope.probes.methods.attention_probe import Net

        probe.net_ = Net(width, probe.params.norm)
        initialize(probe.net_, seeded(2))
        torch.nn.init.normal_(probe.net_.query, generator=seeded(3))
        probe.net_.eval()
    elif method == "relope":
        linears = target_shapes(backbone.blocks[layer - 1])
        probe.shape_ = {"width": width, "layer": layer, "linears": linears, "module": "", "base": {}}
        probe._assemble(seed=1)
        for adapter in probe.learned_.named_adapters().values():
            torch.nn.init.normal_(adapter.up, std=0.05, generator=seeded(4))
    identity = {"stored_dtype": backbone.compute_dtype, "generation": {"max_new_tokens": 8}}
    return Router(method, RouterRecord(method, layer=layer, identity=identity), probe)


def engine_on(backbone, router, layer, threshold=0.5, **settings):
    """An engine that is not started, on a model that is open."""
    made = EngineSettings(**settings)
    scorer = Scorer(router, layer, backbone)
    served = ServedModel(backbone, scorer, lambda score: score, decoder(backbone))
    return TransformersEngine(backbone.name, threshold, made, lambda: served)


class running:
    """The engine between its start and its stop."""

    def __init__(self, engine):
        self.engine = engine

    def __enter__(self):
        self.engine.open()
        return self.engine

    def __exit__(self, *_):
        self.engine.close(grace=60)


def asked(text, *images, **settings):
    """A query of one turn, its images first."""
    return Query(messages=(Message("user", (*images, text)),), **settings)


def decision_of(ticket):
    """Wait for the decision."""
    return asyncio.run(ticket.decision())


def pieces_of(ticket):
    """Iterate over the answer as it comes, outside of any event loop."""
    pieces = ticket.pieces()
    with asyncio.Runner() as loop, contextlib.suppress(StopAsyncIteration):
        while True:
            yield loop.run(_next(pieces))


async def _next(pieces):
    return await anext(pieces)


def answer(ticket):
    """Wait for the decision and the whole answer."""
    decision = decision_of(ticket)
    pieces = list(pieces_of(ticket))
    ids = [token for piece in pieces for token in piece.token_ids]
    return decision, "".join(piece.text for piece in pieces), ids, pieces[-1].finish if pieces else None
