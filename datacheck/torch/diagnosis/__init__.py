"""Diagnosis: replays a step, follows every non-finite value back, and names where it came from."""
