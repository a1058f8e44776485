"""Gemma 3 12B, instruction-tuned: 48 blocks, read at 24; 256 tokens an image. Gated: accept its licence first."""

from relope.extract.model.card import Card

NAME = "gemma3-12b"
CARD = Card(source="google/gemma-3-12b-it", n_blocks=48, layer=24, batch_size=8)
