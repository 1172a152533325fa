"""The verbs: each reads its settings, builds, calls and prints."""
