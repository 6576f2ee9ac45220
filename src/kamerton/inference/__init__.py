"""Floor 5: the embedded engine: batched generation and scoring over one base."""
