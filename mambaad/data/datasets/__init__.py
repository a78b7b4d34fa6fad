"""One module per data set or layout; `catalog` says what is published about each."""
