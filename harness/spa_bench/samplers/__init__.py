"""Samplers: what draws answers; see base.py for the protocol."""
