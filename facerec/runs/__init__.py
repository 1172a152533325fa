"""Run directories: their files, their comparison, and tables of several."""
