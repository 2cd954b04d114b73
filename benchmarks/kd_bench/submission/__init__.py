"""From a run on somebody's machine to an entry of the leaderboards: submitting, checking, correcting."""
