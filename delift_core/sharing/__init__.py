"""What leaves the house: the subset in the formats of other tools, the report, the push to a hub."""
