"""Pure statistics on arrays and frames: no Dagster, SQL, MLflow, clock or environment."""
