"""Engines: one file each, ``open_engine``; `relope list engines` shows them."""
