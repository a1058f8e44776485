"""Pipelines: pipelines.yaml → steps that run or are skipped."""
