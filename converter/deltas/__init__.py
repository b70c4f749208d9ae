"""Makes deltas: files that make a release's files from those of an earlier one."""
