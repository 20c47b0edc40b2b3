"""Executors: who runs the units."""
