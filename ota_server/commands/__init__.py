"""The operator's subcommands of `ferry`."""
