"""Backbones: one file each, a ``CARD``; `relope list models` shows them."""
