"""Recorded requests, feedback, exposures and experiments."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables of live traffic."""
    op.create_table(
        "requests",
        sa.Column("id", sa.String(80), nullable=False),
        sa.Column("created", sa.DateTime, nullable=False),
        sa.Column("variant", sa.String(200), nullable=False),
        sa.Column("content_hash", sa.String(64), nullable=False),
        sa.Column("route", sa.String(200), nullable=False),
        sa.Column("rule", sa.String(200), nullable=False),
        sa.Column("experiment", sa.String(200), nullable=False),
        sa.Column("arm", sa.String(200), nullable=False),
        sa.Column("propensity", sa.Float, nullable=False),
        sa.Column("routing_version", sa.String(64), nullable=False),
        sa.Column("unit", sa.String(200), nullable=False),
        sa.Column("conversation", sa.String(200), nullable=False),
        sa.Column("segment", sa.String(200), nullable=False),
        sa.Column("tenant", sa.String(200), nullable=False),
        sa.Column("language", sa.String(35), nullable=False),
        sa.Column("key_name", sa.String(100), nullable=False),
        sa.Column("latency_s", sa.Float, nullable=False),
        sa.Column("first_token_s", sa.Float),
        sa.Column("prompt_tokens", sa.Integer, nullable=False),
        sa.Column("answer_tokens", sa.Integer, nullable=False),
        sa.Column("finish_reason", sa.String(40), nullable=False),
        sa.Column("status", sa.Integer, nullable=False),
        sa.Column("refusal", sa.Boolean),
        sa.Column("format_valid", sa.Boolean),
        sa.Column("cost", sa.Float),
        sa.Column("prompt", sa.Text),
        sa.Column("answer", sa.Text),
        sa.Column("checks", sa.JSON),
        sa.Column("shadow_of", sa.String(80)),
        sa.PrimaryKeyConstraint("id", name="pk_requests"),
    )
    op.create_index("ix_requests_created", "requests", ["created"])
    op.create_index("ix_requests_experiment", "requests", ["experiment"])
    op.create_index("ix_requests_unit", "requests", ["unit"])
    op.create_index("ix_requests_variant_created", "requests", ["variant", "created"])
    op.create_table(
        "feedback",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("completion_id", sa.String(80), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("value", sa.Float),
        sa.Column("label", sa.String(200)),
        sa.Column("rater", sa.String(200), nullable=False),
        sa.Column("comment", sa.Text),
        sa.Column("correction", sa.Text),
        sa.Column("source", sa.String(40), nullable=False),
        sa.Column("idempotency_key", sa.String(200)),
        sa.Column("created", sa.DateTime, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_feedback"),
        sa.UniqueConstraint("completion_id", "idempotency_key", name="uq_feedback_completion_id"),
    )
    op.create_index("ix_feedback_completion_id", "feedback", ["completion_id"])
    op.create_table(
        "exposures",
        sa.Column("experiment", sa.String(200), nullable=False),
        sa.Column("unit", sa.String(200), nullable=False),
        sa.Column("arm", sa.String(200), nullable=False),
        sa.Column("propensity", sa.Float, nullable=False),
        sa.Column("created", sa.DateTime, nullable=False),
        sa.PrimaryKeyConstraint("experiment", "unit", name="pk_exposures"),
    )
    op.create_table(
        "experiments",
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("version", sa.String(64), nullable=False),
        sa.Column("settings", sa.JSON, nullable=False),
        sa.Column("salt", sa.String(64), nullable=False),
        sa.Column("status", sa.String(20), nullable=False),
        sa.Column("started", sa.DateTime),
        sa.Column("ended", sa.DateTime),
        sa.PrimaryKeyConstraint("name", "version", name="pk_experiments"),
    )
    op.create_table(
        "experiment_events",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("created", sa.DateTime, nullable=False),
        sa.Column("experiment", sa.String(200), nullable=False),
        sa.Column("what", sa.String(40), nullable=False),
        sa.Column("by_whom", sa.String(200), nullable=False),
        sa.Column("detail", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_experiment_events"),
    )
    op.create_index("ix_experiment_events_experiment", "experiment_events", ["experiment"])


def downgrade() -> None:
    """Drop them."""
    for table in ("experiment_events", "experiments", "exposures", "feedback", "requests"):
        op.drop_table(table)
