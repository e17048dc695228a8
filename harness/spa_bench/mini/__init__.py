"""The embedded world: generated functions and questions, their data, and a small model trained on both."""
