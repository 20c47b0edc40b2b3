"""What a guard is made of: measures, watchers, histories, actions, snapshots and bundles."""
