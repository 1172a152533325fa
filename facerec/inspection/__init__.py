"""One pass over a set that finds all that is wrong with it."""
