"""Everything Dagster: assets, checks, jobs, resources. The only importer of Dagster besides definitions.py."""
