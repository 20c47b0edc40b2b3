"""datacheck finds every value that would poison training and says exactly where it is."""

__version__ = "0.1.0"
