"""Embedded 1.6 M-parameter Qwen2.5-VL, trained on clean tiny images: the small model."""

from relope.extract.model.card import Card

CARD = Card(source="package:tiny-vl", n_blocks=6, layer=4, batch_size=64)
