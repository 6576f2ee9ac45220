"""The store's tables, as SQLAlchemy Core describes them."""

from sqlalchemy import JSON, Column, DateTime, Float, ForeignKey, Integer, MetaData, String, Table

__all__ = ["evaluations", "metadata", "runs", "variants"]

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
    }
)

runs = Table(
    "runs",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("name", String(200), nullable=False, index=True),
    Column("status", String(20), nullable=False),
    Column("recipe", JSON, nullable=False),
    Column("folder", String(1000), nullable=False),
    Column("started", DateTime, nullable=False),
    Column("updated", DateTime, nullable=False),
    Column("step", Integer, nullable=False),
    Column("num_steps", Integer, nullable=False),
    Column("loss", Float),
    Column("holdout_loss", Float),
)

variants = Table(
    "variants",
    metadata,
    Column("content_hash", String(64), primary_key=True),
    Column("name", String(200), nullable=False, index=True),
    Column("folder", String(1000), nullable=False),
    Column("created", DateTime, nullable=False),
    Column("manifest", JSON, nullable=False),
)

evaluations = Table(
    "evaluations",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("created", DateTime, nullable=False),
    Column("data_fingerprint", String(64), nullable=False),
    Column("comparison", JSON, nullable=False),
)

evaluated_variants = Table(
    "evaluated_variants",
    metadata,
    Column("evaluation_id", String(36), ForeignKey("evaluations.id"), primary_key=True),
    Column("variant", String(200), primary_key=True),
)
