"""A personal model behind the OpenAI API: `sync-r1 serve`. Needs the extra `sync-r1[serve]`."""
