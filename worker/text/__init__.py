"""Texts to vectors: what a publisher's files say, tokens, batches by length, and what becomes of the graph's output."""
