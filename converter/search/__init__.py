"""Finds the smallest or fastest variant that keeps to the budget: what to try next, apart from trying it."""
