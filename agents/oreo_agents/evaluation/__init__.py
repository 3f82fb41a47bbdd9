"""Answers to tables: items, budgets, intervals and tests, reports, pictures."""
