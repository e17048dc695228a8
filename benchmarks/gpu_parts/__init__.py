"""Parts of benchmarks/gpu_session.py."""
