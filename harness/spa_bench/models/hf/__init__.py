"""Models of transformers: the network, its adapters, and the acts that run it (draw, score, divergence)."""
