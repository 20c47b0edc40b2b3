"""The version, which everything else may read."""

__version__ = "0.1.0"
