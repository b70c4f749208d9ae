"""Remembers what passes made, so that a conversion runs only what changed since the last one.

`keys` says what a result depends on, `code` and `environment` two parts of that; `store` keeps results on
disk; `results` brings them together for the scheduler.
"""
