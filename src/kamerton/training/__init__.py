"""Floor 7: the one training loop: plan, step, guard, checkpoint, resume."""
