"""Runs, variants and evaluations."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the first tables."""
    op.create_table(
        "runs",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("status", sa.String(20), nullable=False),
        sa.Column("recipe", sa.JSON, nullable=False),
        sa.Column("folder", sa.String(1000), nullable=False),
        sa.Column("started", sa.DateTime, nullable=False),
        sa.Column("updated", sa.DateTime, nullable=False),
        sa.Column("step", sa.Integer, nullable=False),
        sa.Column("num_steps", sa.Integer, nullable=False),
        sa.Column("loss", sa.Float),
        sa.Column("holdout_loss", sa.Float),
        sa.PrimaryKeyConstraint("id", name="pk_runs"),
    )
    op.create_index("ix_runs_name", "runs", ["name"])
    op.create_table(
        "variants",
        sa.Column("content_hash", sa.String(64), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("folder", sa.String(1000), nullable=False),
        sa.Column("created", sa.DateTime, nullable=False),
        sa.Column("manifest", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("content_hash", name="pk_variants"),
    )
    op.create_index("ix_variants_name", "variants", ["name"])
    op.create_table(
        "evaluations",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("created", sa.DateTime, nullable=False),
        sa.Column("data_fingerprint", sa.String(64), nullable=False),
        sa.Column("comparison", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_evaluations"),
    )
    op.create_table(
        "evaluated_variants",
        sa.Column("evaluation_id", sa.String(36), nullable=False),
        sa.Column("variant", sa.String(200), nullable=False),
        sa.ForeignKeyConstraint(
            ["evaluation_id"], ["evaluations.id"], name="fk_evaluated_variants_evaluation_id"
        ),
        sa.PrimaryKeyConstraint("evaluation_id", "variant", name="pk_evaluated_variants"),
    )


def downgrade() -> None:
    """Drop them."""
    for table in ("evaluated_variants", "evaluations", "variants", "runs"):
        op.drop_table(table)
