"""Versions of a model: resolve, load, digest."""
