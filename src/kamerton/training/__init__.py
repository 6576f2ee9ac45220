"""Floor 6: the one training loop: plan, step, guard, checkpoint, resume."""
