"""Draws every plot and contact sheet, from arrays."""
