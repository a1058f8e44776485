"""Importers: one file a format of another tool; `relope list importers` shows them."""
