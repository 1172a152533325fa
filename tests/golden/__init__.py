"""Loss curves that a change which is meant to keep behaviour must reproduce."""
