"""What extract and plan share: names checked, samples read, the backbone opened."""

from relope.extract.data.dataset import DataSet, check_splits, load_samples
from relope.extract.grading.grader import open_grader
from relope.extract.intake import additions
from relope.extract.model.backbone import Backbone, open_backbone
from relope.extract.model.card import open_card
from relope.extract.recipe import parse_layers
from relope.spec import ExtractSpec
from relope.types import Sample, Watch


def check_names(spec: ExtractSpec) -> None:
    """Tell a misspelt name or a layer that is not there before anything is fetched."""
    card = open_card(spec.model)
    if card.n_blocks:
        parse_layers(spec.layers, card.n_blocks, card.layer)
    if spec.grader:
        open_grader(spec.grader)
    additions(spec)


def open_model(spec: ExtractSpec) -> Backbone:
    spread = spec.device_map == "auto"
    return open_backbone(spec.model, spec.device, spec.dtype, spec.attn, spread=spread, quantize=spec.quantize)


def read_samples(dataset: DataSet, spec: ExtractSpec, watch: Watch) -> list[Sample]:
    with watch("read data") as progress:
        progress(0, 1)
        samples = load_samples(dataset, check_splits(dataset, spec.split), spec.limit)
        progress(1, 1)
    return samples
