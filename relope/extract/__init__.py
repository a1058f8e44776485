"""From a data set and a model to a graded store."""
