"""Warm-up of a concept's tokens by token-level losses:

UniCTokens' three stages, and the supervised baseline that RL is compared with.
"""
