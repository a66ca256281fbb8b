"""Joins wire and broker: topics to columns and back."""
