"""Row hashes and the store that keeps them, in memory or spilled to disk."""
