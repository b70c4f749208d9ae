"""The subcommands of `ferry-device`, one module each."""
