"""`python -m sync_r1` is the command `sync-r1`."""

from sync_r1.cli import main

main()
