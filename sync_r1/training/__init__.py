"""Shared by the reinforcement learner and the warm-up: what trains, checkpoints, metrics, prompts, several
processes."""
