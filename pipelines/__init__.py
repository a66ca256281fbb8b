"""Pipelines: how an experiment's data gets into topics and its models get trained. They use mlstream's public names."""
