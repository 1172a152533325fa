"""Where time and memory go on this machine."""
