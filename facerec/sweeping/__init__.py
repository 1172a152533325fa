"""Grids over trials and the table of their results."""
