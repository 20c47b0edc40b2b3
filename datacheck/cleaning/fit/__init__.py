"""Statistics that are fitted on the training split."""
