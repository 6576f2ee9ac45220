"""Ragged attention: layouts, the cache, prefixes, and the ways a packed row is computed."""
