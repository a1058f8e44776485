"""The vLLM server that a bundle needs: for which bundles there is one, and how it is started."""

from dataclasses import replace
from pathlib import Path

from relope.errors import UnsupportedError
from relope.extract.model.backbone import Backbone
from relope.extract.model.card import open_card
from relope.extract.model.checkpoint import find_checkpoint
from relope.extract.model.told import alternatives, entropies_told
from relope.probes.protocol import Probe, reads_of_answer
from relope.probes.router import Router
from relope.provenance import write_bytes
from relope.serve.bundle import Bundle
from relope.serve.limits import Limits
from relope.serve.local.scoring import check_entropies
from relope.vllm.command import Server, check_class, reads_images_whole, served_name
from relope.vllm.tokens import FLAGS

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
    check_router(router, backbone)
    for field, what in (("quantize", "quantized weights"), ("adapter_files", "an adapter merged into its weights")):
        if bundle.backbone.get(field):
            raise UnsupportedError(
                f"{bundle.model} has {what}, which vLLM would compute otherwise", hint="use --engine transformers"
            )
    files, layers = (
        find_checkpoint(open_card(backbone.name)),
        layers_of(router.probe, bundle.layer, len(backbone.blocks)),
    )
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
        more=_flags(router.probe, backbone),
        whole_images=bool(images) and reads_images_whole(files.folder),
    )


def layers_of(probe: Probe, layer: int, depth: int) -> tuple[int, ...]:
    """Return the blocks whose states a router reads, those of what it stacks included.

    Args:
        probe: of the router.
        layer: the block l that it reads.
        depth: blocks of the model; an answer's states are those behind the last.
    """
    if not probe.traits.reads_answer:
        return tuple(sorted({*probe.layers(layer), layer}))
    last = {depth} if "states" in reads_of_answer(probe) else set()
    return tuple(sorted({*probe.layers(layer), *last} or {layer}))  # a server hands one block over at least


def reads_states_after(probe: Probe, layer: int) -> bool:
    """Return whether a router that decides after the answer reads states, of the prompt or of the answer."""
    return probe.traits.reads_answer and bool(probe.layers(layer) or "states" in reads_of_answer(probe))


def _flags(probe: Probe, backbone: Backbone) -> tuple[str, ...]:
    """Return what a server has to be told besides, where a router decides after the answer."""
    reads = reads_of_answer(probe)
    states = FLAGS if reads_states_after(probe, 1) else ()
    told = ("--max-logprobs", str(alternatives(backbone))) if "entropies" in reads else ()
    return (*states, *told)


def check_router(router: Router, backbone: Backbone) -> None:
    """Refuse a router that reads what no server tells.

    Raises:
        UnsupportedError: it does.
    """
    traits, method = router.probe.traits, router.record.method
    if traits.needs or traits.reads_grades:
        raise UnsupportedError(f"{method} cannot be served: it needs {traits.flags or 'graded answers'} of every query")
    check_entropies(router, entropies_told(backbone), "a vLLM server")


def with_template(server: Server, bundle: Bundle, path: Path) -> Server:
    """Return a server with the chat template of a bundle that brings one, in a file that the server reads once.

    Raises:
        OutputError: the file cannot be written.
    """
    if not bundle.chat_template:
        return server
    write_bytes(path, bundle.chat_template.encode())
    return replace(server, chat_template=path)
