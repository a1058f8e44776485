"""Phi-4-multimodal-instruct with its vision LoRA merged: 32 blocks, read at 16."""

from relope.extract.model.card import Card

NAME = "phi4-multimodal"
CARD = Card(
    source="microsoft/Phi-4-multimodal-instruct",
    n_blocks=32,
    layer=16,
    batch_size=8,
    revision="refs/pr/70",  # where the checkpoint has the layout of the library's own class
    adapter="vision-lora",
)
