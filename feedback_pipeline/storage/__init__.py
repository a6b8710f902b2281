"""Plain objects that touch the outside: Postgres, the Parquet feature store, interchange files."""
