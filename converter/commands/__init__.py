"""The converter's subcommands of `ferry`, one module each."""
