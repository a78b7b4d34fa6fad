"""One run, from its settings to its record.  Reading order: execution, optim, state, feature_cache, train, evaluate,
environment, records, run.
"""
