"""Floor 1: what clients, the gateway and engines say to each other. Never imports torch."""
