"""Pairs of rows to `Utility`: in-context utility with a language model, and cosine of sentence embeddings."""
