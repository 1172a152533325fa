"""Draws synthetic faces: identities from a seed, photographed, aligned and packed."""
