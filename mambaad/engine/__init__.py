"""One run, from its settings to its record.

Reading order: execution, optim, processes, shared_norm, state, feature_cache, interrupt, result, held_out, fit, train,
evaluate, curve, environment, records, lock, run, budget.
"""
