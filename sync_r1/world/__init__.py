"""The embedded world: its pictures and sentences, the shipped weights, and how they are pretrained."""
