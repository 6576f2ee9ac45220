"""What stands on the wire between clients, the gateway and engines."""
