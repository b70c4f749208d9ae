"""The converter's subcommands of `ferry`: each declares its arguments and runs."""
