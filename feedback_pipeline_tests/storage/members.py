"""Logins that have no right but those of a role."""

from collections.abc import Iterator
from contextlib import contextmanager

from psycopg import sql

from feedback_pipeline.storage.database import Database


@contextmanager
def member(database: Database, *roles: str) -> Iterator[str]:
    """A login that is a member of roles and nothing else."""
    login = sql.Identifier(f"member_of_{'_'.join(roles)}_{database.name}")
    with database.connect(autocommit=True) as connection:
        joined = sql.SQL(", ").join(map(sql.Identifier, roles))
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN IN ROLE {}").format(login, joined))
    try:
        yield login.as_string().strip('"')
    finally:
        with database.connect(autocommit=True) as connection:
            connection.execute(sql.SQL("DROP ROLE {}").format(login))
