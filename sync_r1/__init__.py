"""Sync-R1: one multimodal model that understands and draws your things, trained in a single RL loop."""

from sync_r1.threads import set_wait_policy

__version__ = "0.2.0"
set_wait_policy()
