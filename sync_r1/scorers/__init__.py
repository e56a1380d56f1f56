"""Scorers: prediction → score in [0, 1], the same ones for rewards and for the benchmark."""
