"""Where commands write and read unless told otherwise, relative to the working directory."""

RUNS = "runs"
PAGE = "site/index.html"
