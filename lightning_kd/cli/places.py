"""Where commands write and read unless told otherwise, relative to the working directory."""

RESULTS = "results"
PAGE = "site/index.html"
