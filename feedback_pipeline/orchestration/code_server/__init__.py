"""Serves the definitions to Dagster and starts its runs."""
