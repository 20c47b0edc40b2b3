"""A job in several processes that share only a folder: its units by shard, their results as files, and the merge."""
