"""Schema inference."""
