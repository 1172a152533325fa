"""Scores embedders: the verification protocol, ROC metrics, and baselines that do not know faces."""
