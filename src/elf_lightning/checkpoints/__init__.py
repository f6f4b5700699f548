"""Weights in and out: the official format, the Hub format, Lightning checkpoints."""
