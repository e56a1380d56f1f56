"""UnifyBench++: nine tasks, predicted, then scored, then compared. Knows nothing of training.

`evaluate.evaluate` is one phase of one run in memory; `run` is the whole benchmark on disk, for any model
(docs/benchmark.md). Nothing is imported here, so that `results`, which the report reads, needs no PyTorch.
"""
