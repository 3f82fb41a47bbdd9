"""Runs: the command ``oreo``, the stages of a run folder, what looks wrong in one. Stands on every other room."""
