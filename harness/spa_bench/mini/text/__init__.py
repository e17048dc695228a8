"""The embedded world's second half: short questions with true answers, and several true ways to explain each."""
