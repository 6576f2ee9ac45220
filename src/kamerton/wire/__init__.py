"""Floor 1: what stands on the wire between clients, the gateway and engines. Never imports torch."""
