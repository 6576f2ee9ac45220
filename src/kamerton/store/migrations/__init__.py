"""Alembic migrations of the store, run from code."""
