"""Claims about paths through tables."""
