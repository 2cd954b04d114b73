"""Where commands write and read unless told otherwise, relative to the working directory."""

RUNS = "runs"
VERIFY_RUNS = "verify-runs"
"""Apart from the others, so that what is trained again is on no leaderboard."""

PAGE = "site/index.html"
LEADERBOARDS = "leaderboards"
