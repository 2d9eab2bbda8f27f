"""Nouns, errors and ports: numpy and the standard library only."""
