"""Claims about other feedback."""
