"""Samples in a browser: what was asked and answered, what every router would do, grades corrected by hand."""
