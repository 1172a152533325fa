"""Measures time and memory on this machine, and plans both for others."""
