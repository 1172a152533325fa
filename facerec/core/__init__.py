"""Shared by all rooms: errors, the batch, protocols, the input specification, seeding, the run log."""
