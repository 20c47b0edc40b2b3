"""Comparison of datasets: leakage and drift."""
