"""Inspects a set in one pass and finds all its faults."""
