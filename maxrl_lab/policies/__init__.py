"""Small policies, and the stack that evaluates many of them at once."""
