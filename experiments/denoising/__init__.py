"""Claims about denoised answers."""
