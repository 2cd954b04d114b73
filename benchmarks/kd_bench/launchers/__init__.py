"""Ways to get a list of work items done; they differ in where the processes run."""
