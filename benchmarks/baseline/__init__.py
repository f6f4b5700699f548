"""Straightforward implementations of the same mathematics: what ours is measured against and must equal."""
