"""The family of written answers: an autoregressive policy writes tokens, and a verifier says right or wrong."""
