"""Sync-R1: one multimodal model that understands and draws your things, trained in a single RL loop."""

__version__ = "0.1.0"
