"""What a selection means: pure functions from evidence and picks to facts a page can show."""
