"""Suggested fixes: rewritten lines of the program that were run before they are suggested, and general advice."""
