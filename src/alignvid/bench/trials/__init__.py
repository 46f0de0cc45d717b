"""A field trial: what a few arms do to a model, decided by a plan that was written down before.

A trial is a run of the benchmark (`alignvid.bench.runs`) with its own choice of scenes and arms: the same jobs,
workers, records, judges, metrics and statistics. What is its own is here: the plan and its digest, what it will cost,
pairs that people compare blind, and one record that can be merged with others.
"""
