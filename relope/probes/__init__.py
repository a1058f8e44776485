"""Routers: what reads a small model's states and predicts whether its answer is right."""
