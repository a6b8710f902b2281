"""What the HTTP API and the SDK say to each other: pydantic models, and nothing that needs more than pydantic."""
