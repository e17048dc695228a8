"""Samplers that ask an instruct model, step by step: what they share is in `steps`, `words` and `reading`, one file a kind."""
