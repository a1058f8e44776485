"""The version of the package: what the wheel is called, recorded beside results and never part of a fingerprint."""

__version__ = "0.1.0"
