"""Benchmarks: datacheck beside its peers, in one process run, with ratios. ``python -m benchmarks`` runs all of them."""
