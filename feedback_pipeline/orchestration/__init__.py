"""The only importer of Dagster besides definitions.py."""
