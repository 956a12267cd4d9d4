"""The on-policy step, its loop, and the fair comparison, once for every family of tasks."""
