"""Claims about written answers."""
