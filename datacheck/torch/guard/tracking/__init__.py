"""The numbers and events of a guarded run, for experiment trackers and for ``datacheck watch``."""
