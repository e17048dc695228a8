"""What benchmarks/attribution.py is made of."""
