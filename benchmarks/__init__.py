"""The figures of the README, each measured in one run beside its peers. `make bench` runs all of them.

Ratios last; absolute figures belong to the machine that is named beside them. Nothing here is a test.
"""
