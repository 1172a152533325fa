"""Turns a command line into a checked configuration."""
