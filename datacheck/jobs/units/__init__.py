"""Units of work: each one scanned, labelled or cleaned by a pure function."""
