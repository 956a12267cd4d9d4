"""Claims that are computed: from tables of coefficients, by enumeration, and by training on exact gradients."""
