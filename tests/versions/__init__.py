"""Versions: digests, loading, predictions."""
