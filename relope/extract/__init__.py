"""Samples in, generations and hidden states out."""
