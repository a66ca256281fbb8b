"""Immutable datasets under one digest."""
