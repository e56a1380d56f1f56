"""Studies: a grid of runs declared in YAML, and the claims that its results support or refute.

study_file.py reads the declaration, runner.py runs it (safe to stop and resume), claims.py does the statistics,
results.py writes tables and figures, with dgs_summary.py for Dynamic Group Scaling and rewrite_examples.py for rewrites
and their pictures.
"""
