"""The family of denoised answers: a masked-diffusion policy fills places in any order, and a verifier says right or wrong."""
