"""The studio: a page over `sync_r1.apps`, mounted into the server of `sync-r1 serve`. Needs `sync-r1[studio]`."""
