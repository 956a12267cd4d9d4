"""The family of denoised answers: a masked-diffusion policy fills the places in any order, a verifier judges them."""
