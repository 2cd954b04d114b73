"""Training and scoring one network under a recipe."""
