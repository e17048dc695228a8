"""The embedded world: a generated task family, its data and a small model trained on it."""
