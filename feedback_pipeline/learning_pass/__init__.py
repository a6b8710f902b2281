"""The steps of a learning pass after extraction, one module each; the assets are glue around them."""
