"""Backbones, the neck, the embedding network, and reading weights."""
