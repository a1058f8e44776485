"""Engines: one file each, which computes planned units; `relope list engines` shows them."""
