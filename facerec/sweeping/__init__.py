"""Grids of trials and the table of their results."""
