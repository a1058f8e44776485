"""relope: train, evaluate and serve hidden-state routers between a small and a large MLLM."""

__version__ = "0.1.0"
