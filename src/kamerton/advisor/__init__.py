"""Floor 6: what a file is, its recipe, which method fits. Never imports torch."""
