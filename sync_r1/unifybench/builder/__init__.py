"""Proposes a test set for a concept of yours, as a file to review, and applies what was reviewed."""
