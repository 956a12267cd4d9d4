"""Gridworld levels: made, turned into exact tables, played through Gymnasium, and shown as pictures."""
