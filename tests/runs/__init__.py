"""Runs on a real broker."""
