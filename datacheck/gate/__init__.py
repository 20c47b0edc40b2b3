"""The gate: what is checked, by which schema, what of it counts, what is known already, and what need not be read again."""
