"""Sync-GRPO: one reinforcement learning loop over understanding and generation."""
