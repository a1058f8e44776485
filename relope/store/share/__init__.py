"""Stores of a team: push, pull, merge, and reading a store where it is."""
