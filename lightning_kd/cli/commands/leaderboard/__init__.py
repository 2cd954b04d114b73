"""Turn results into a leaderboard."""
