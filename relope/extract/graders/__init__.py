"""Graders: one file each, a ``grade`` function and a ``VERSION``; `relope list graders` shows them."""
