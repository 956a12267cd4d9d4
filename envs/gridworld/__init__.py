"""Gridworld levels: made, turned into exact tables, played through Gymnasium, and shown as pictures."""

from envs.gridworld.tables import egocentric, pictures, tasks

__all__ = ["egocentric", "pictures", "tasks"]
