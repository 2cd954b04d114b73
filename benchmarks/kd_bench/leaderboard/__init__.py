"""Result files to a leaderboard: a table in the terminal, a page in the browser."""
