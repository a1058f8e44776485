"""Bytes on disk: the layout of a store, its parts, arrays and digests."""
