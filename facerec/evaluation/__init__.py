"""Scoring embedders: the verification protocol, ROC figures, and baselines that know no faces."""
