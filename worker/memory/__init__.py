"""How much memory this worker may use, who holds how much of it, and who has to wait."""
