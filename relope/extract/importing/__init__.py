"""Answers that other tools have written: what their files say, and which samples they answer."""
