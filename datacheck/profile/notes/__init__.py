"""Notes: what looks wrong in data and no rule forbids, from one streaming pass with mergeable state of bounded size."""
