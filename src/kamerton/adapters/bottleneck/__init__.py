"""Bottleneck adapters, in a row and fused."""
