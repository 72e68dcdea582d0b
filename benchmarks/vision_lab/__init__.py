"""What the benchmark of pictures is made of: networks, the bound, the clients, and others that do the same."""
