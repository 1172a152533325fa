"""Synthetic faces: identities drawn from a seed, photographed, aligned and packed."""
