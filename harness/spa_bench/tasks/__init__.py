"""Tasks are benchmarks with their rules for judging; see base.py."""
