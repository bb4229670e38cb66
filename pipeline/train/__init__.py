"""The one loop, its hooks, and where metrics go."""
