"""The objectives that frameworks optimise as they are shipped: their own advantage code, audited."""
