"""Chooses the samples of a step, and their order."""
