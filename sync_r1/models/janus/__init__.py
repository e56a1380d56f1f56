"""Janus: understands pixels, draws image tokens one after the other."""
