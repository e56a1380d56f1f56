"""What a run will need, before any weight is loaded: memory and time."""
