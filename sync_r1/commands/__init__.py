"""The command line's commands, a module per family. Each imports heavy packages only when a command runs."""
