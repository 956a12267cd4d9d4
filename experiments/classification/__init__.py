"""Claims about one categorical draw."""
