"""A backbone that is open: loading, prompts, capture, generation."""
