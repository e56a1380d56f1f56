"""Studies: a grid of runs declared in YAML, and the claims that its results support or refute.

grid.py reads the declaration, cells.py runs it (safe to stop and resume), claims.py does the statistics, results.py
writes tables and figures, with scaling.py for Dynamic Group Scaling and loop.py for rewrites and their pictures.
"""
