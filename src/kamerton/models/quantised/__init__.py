"""Weights in 4 or 8 bits: codecs, layers, and the stored form of others."""
