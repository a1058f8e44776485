"""The vLLM server that a bundle needs: for which bundles there is one, and how it is started."""

from dataclasses import replace
from pathlib import Path

from relope.errors import UnsupportedError
from relope.extract.model.backbone import Backbone
from relope.extract.model.card import open_card
from relope.extract.model.checkpoint import find_checkpoint
from relope.probes.protocol import Probe
from relope.probes.router import Router
from relope.provenance import write_bytes
from relope.serve.bundle import Bundle
from relope.serve.limits import Limits
from relope.vllm.command import Server, check_class, served_name

AFTER = ("logprob", "perplexity", "question-confidence")
"""Methods that read no more of an answer than its text and its tokens' log-probs, which a server tells."""

PORT = 8001


def server_of(bundle: Bundle, router: Router, backbone: Backbone, states: Path) -> Server:
    """Return the server that a bundle's router reads.

    Args:
        bundle: that decides.
        router: its router.
        backbone: the model, without its weights.
        states: folder that states are left in.

    Raises:
        UnsupportedError: vLLM gives no such states, or computes otherwise than the bundle's model.
    """
    check_router(router)
    for field, what in (("quantize", "quantized weights"), ("adapter_files", "an adapter merged into its weights")):
        if bundle.backbone.get(field):
            raise UnsupportedError(
                f"{bundle.model} has {what}, which vLLM would compute otherwise", hint="use --engine transformers"
            )
    files, layers = find_checkpoint(open_card(backbone.name)), layers_of(router.probe, bundle.layer)
    check_class(files.folder, bundle.model, layers)
    pixels = files.card.pixels
    images = backbone.traits.sees_images and not bundle.backbone.get("text_only")
    return Server(
        checkpoint=str(files.folder),
        name=served_name(bundle.model, bundle.backbone, layers),
        layers=layers,
        dtype=str(bundle.backbone["compute_dtype"]),
        folder=states,
        port=PORT,
        images=Limits().images if images else 0,
        processor={"min_pixels": pixels[0], "max_pixels": pixels[1]} if pixels else None,
    )


def layers_of(probe: Probe, layer: int) -> tuple[int, ...]:
    """Return the blocks whose states a router reads, those of what it stacks included."""
    return tuple(sorted({*probe.layers(layer), layer}))


def check_router(router: Router) -> None:
    """Refuse a router that reads what no server tells.

    Raises:
        UnsupportedError: it does.
    """
    traits, method = router.probe.traits, router.record.method
    if traits.needs or traits.reads_grades:
        raise UnsupportedError(f"{method} cannot be served: it needs {traits.flags or 'graded answers'} of every query")
    if traits.reads_answer and method not in AFTER:
        raise UnsupportedError(
            f"{method} reads the entropies or the final states of an answer, which a vLLM server does not tell",
            hint="use --engine transformers",
        )


def with_template(server: Server, bundle: Bundle, folder: Path) -> Server:
    """Return a server with the chat template of a bundle that brings one, in a file beside it.

    Raises:
        OutputError: the file cannot be written.
    """
    if not bundle.chat_template:
        return server
    path = folder.resolve().with_name(f"{folder.resolve().name}.chat_template.jinja")
    write_bytes(path, bundle.chat_template.encode())
    return replace(server, chat_template=path)
