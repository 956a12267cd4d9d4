"""Claims that need no training and no sampling."""
