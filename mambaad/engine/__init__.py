"""One run, from its settings to its record.

Reading order: execution, optim, processes, state, feature_cache, interrupt, train, evaluate, environment, records,
lock, run.
"""
