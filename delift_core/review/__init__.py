"""What is asked of a finished run: why this row, what else, how stable, what a person changes.  No new scoring."""
