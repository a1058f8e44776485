"""The small model in this process: prompts read in batches that may split at block l, answers written row by row."""
