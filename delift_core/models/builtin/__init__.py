"""The built-in language model: its weights, its documents and the script that trains it."""
