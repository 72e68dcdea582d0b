"""What the benchmark of embeddings is made of: the bound, the clients, and others that do the same."""
