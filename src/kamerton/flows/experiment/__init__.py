"""`kamerton experiment`: plan, start, status, report, stop; and who watches it in the server."""
