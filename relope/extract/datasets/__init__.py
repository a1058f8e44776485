"""Data sets: one file each, a ``DATASET``; `relope list datasets` shows them."""
