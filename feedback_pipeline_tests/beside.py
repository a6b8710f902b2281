"""The databases that Dagster and MLflow get beside the one of a test."""

from psycopg import sql

from feedback_pipeline.storage.database import Database


def drop_beside(server: Database, database: Database) -> None:
    """Drop both, whoever is still connected."""
    with server.connect(autocommit=True) as connection:
        for kind in ("dagster", "mlflow"):
            name = sql.Identifier(f"{database.name}_{kind}")
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))
