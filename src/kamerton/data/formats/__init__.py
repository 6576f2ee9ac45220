"""Rows as examples: what their fields mean, whoever named them."""
