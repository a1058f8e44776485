"""Routing methods: one file each, a ``Method`` class; `relope list methods` shows them."""
