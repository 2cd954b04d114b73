"""Submissions to check: valid ones, and what becomes of them in the hands of somebody hostile."""
