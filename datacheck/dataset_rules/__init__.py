"""Rules about a dataset as a whole: each is a mergeable state, exact for any split into units and any number of workers."""
