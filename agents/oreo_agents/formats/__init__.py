"""Anybody's episodes in, ours out: one small module a family of layouts."""
