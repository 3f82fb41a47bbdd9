"""Servers of other engines that sample and read V for us: HTTP with token ids, every answer checked."""
