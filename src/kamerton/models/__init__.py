"""Floor 3: bases: loading, ragged attention, heads, and `builtin:nano`."""
