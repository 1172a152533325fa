"""The processes of one training: rank and world size, collectives, errors that all raise, signals."""
