"""One run, from its settings to its record.  Reading order: optim, state, feature_cache, train, evaluate, environment,
records, run.
"""
