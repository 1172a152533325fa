"""Backbones, the necks, the embedding network, and reading of weights."""
