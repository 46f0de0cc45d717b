"""The samples of a benchmark: data sets read, questions, halves."""
