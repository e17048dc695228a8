"""SPA: attribute, partition, adapt (arXiv 2411.06722)."""
