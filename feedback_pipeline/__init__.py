"""Learn from human reviews of what AI agents write."""
