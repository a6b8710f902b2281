"""What was learned, over HTTP: the API under /api/v2/learning, its operation, and the page."""
