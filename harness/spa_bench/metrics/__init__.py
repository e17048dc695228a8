"""Metrics: quality, diversity, divergence and their intervals. They import neither models nor tasks."""
