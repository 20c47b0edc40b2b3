"""The guard in trainers: one trainer a file. Each is imported only by those who use that trainer."""
