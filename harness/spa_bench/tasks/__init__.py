"""Tasks: benchmarks and how they judge; see base.py."""
