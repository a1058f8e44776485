"""Route between a small and a large (multimodal) LLM by the small one's hidden states."""

from relope.version import __version__ as __version__
