"""Samplers draw answers; see base.py for the protocol."""
