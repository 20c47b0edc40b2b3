"""Cleaning: what is done about what was found, and what is learned from the training split for it."""
