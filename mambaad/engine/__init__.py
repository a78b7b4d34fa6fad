"""One run, from its settings to its record.

Reading order: execution, optim, state, feature_cache, processes, interrupt, train, evaluate, environment, records, run.
"""
