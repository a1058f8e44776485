"""Qwen2.5-VL-7B-Instruct: 28 blocks, read at 16; images of 256 to 1,280 merged tokens."""

from relope.extract.model.card import Card

NAME = "qwen2.5-vl-7b"
CARD = Card(
    source="Qwen/Qwen2.5-VL-7B-Instruct", n_blocks=28, layer=16, pixels=(256 * 28 * 28, 1280 * 28 * 28), batch_size=8
)
