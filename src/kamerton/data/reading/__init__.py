"""Files and data sets of the Hub as rows."""
