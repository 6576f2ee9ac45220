"""The store's tables, as SQLAlchemy Core describes them."""

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    DateTime,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

__all__ = [
    "evaluated_variants",
    "evaluations",
    "experiment_events",
    "experiments",
    "exposures",
    "feedback",
    "metadata",
    "requests",
    "runs",
    "variants",
]

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
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

requests = Table(
    "requests",
    metadata,
    # The completion's id, as the client sees it; of a request without an answer, the request's.
    Column("id", String(80), primary_key=True),
    Column("created", DateTime, nullable=False, index=True),
    Column("variant", String(200), nullable=False),
    Column("content_hash", String(64), nullable=False),
    Column("route", String(200), nullable=False),
    Column("rule", String(200), nullable=False),
    Column("experiment", String(200), nullable=False, index=True),
    Column("arm", String(200), nullable=False),
    Column("propensity", Float, nullable=False),
    Column("routing_version", String(64), nullable=False),
    Column("unit", String(200), nullable=False, index=True),
    Column("conversation", String(200), nullable=False),
    Column("segment", String(200), nullable=False),
    Column("tenant", String(200), nullable=False),
    Column("language", String(35), nullable=False),
    Column("key_name", String(100), nullable=False),
    Column("latency_s", Float, nullable=False),
    Column("first_token_s", Float),
    Column("prompt_tokens", Integer, nullable=False),
    Column("answer_tokens", Integer, nullable=False),
    Column("finish_reason", String(40), nullable=False),
    Column("status", Integer, nullable=False),
    Column("refusal", Boolean),
    Column("format_valid", Boolean),
    Column("cost", Float),
    Column("prompt", Text),
    Column("answer", Text),
    # What checks say of the answer: name and 0 or 1.
    Column("checks", JSON),
    Column("shadow_of", String(80)),
    Index("ix_requests_variant_created", "variant", "created"),
)

feedback = Table(
    "feedback",
    metadata,
    # Rises with each row: the last one of a rater, name and completion is the one that counts.
    Column("id", Integer, primary_key=True),
    # No foreign key: feedback may come before the row of its answer.
    Column("completion_id", String(80), nullable=False, index=True),
    Column("name", String(200), nullable=False),
    Column("value", Float),
    Column("label", String(200)),
    Column("rater", String(200), nullable=False),
    Column("comment", Text),
    Column("correction", Text),
    Column("source", String(40), nullable=False),
    Column("idempotency_key", String(200)),
    Column("created", DateTime, nullable=False),
    UniqueConstraint("completion_id", "idempotency_key"),
)

exposures = Table(
    "exposures",
    metadata,
    Column("experiment", String(200), primary_key=True),
    Column("unit", String(200), primary_key=True),
    Column("arm", String(200), nullable=False),
    Column("propensity", Float, nullable=False),
    Column("created", DateTime, nullable=False),
)

experiments = Table(
    "experiments",
    metadata,
    Column("name", String(200), primary_key=True),
    Column("version", String(64), primary_key=True),
    Column("settings", JSON, nullable=False),
    Column("salt", String(64), nullable=False),
    Column("status", String(20), nullable=False),
    Column("started", DateTime),
    Column("ended", DateTime),
)

experiment_events = Table(
    "experiment_events",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("created", DateTime, nullable=False),
    Column("experiment", String(200), nullable=False, index=True),
    Column("what", String(40), nullable=False),
    Column("by_whom", String(200), nullable=False),
    Column("detail", JSON, nullable=False),
)
