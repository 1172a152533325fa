"""Reads records, folders and pair files; augments, samples and loads."""
