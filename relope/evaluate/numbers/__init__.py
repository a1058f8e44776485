"""Metrics, intervals and tests: what a report says in numbers."""
