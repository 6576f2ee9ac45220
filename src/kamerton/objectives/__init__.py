"""Floor 4: objectives, one file each: from log-probabilities to a loss and its metrics."""
