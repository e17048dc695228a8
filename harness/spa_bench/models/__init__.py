"""Models: the only seam to torch; see base.py for the protocol."""
