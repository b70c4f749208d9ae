"""The `ferry` command: dispatches to the package that owns a subcommand, importing only that one."""
