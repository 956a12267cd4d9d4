"""The family of paths through a table: finite worlds on which nothing about a policy has to be estimated."""
