"""Packed rows: what training, scoring and rewards let the model read."""
