"""Floor 1: prompts and the choice of demonstrations. Never imports torch."""
