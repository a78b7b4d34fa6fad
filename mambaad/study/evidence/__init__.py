"""The evidence on real images: `protocol` fixes the runs before they are made, `resample` tells how much a value owes
to the test images drawn, `carry_out` makes one run, `statistics` compares runs and gives verdicts.
"""
