"""Other versions of a model in shorter numbers, and how far they are from the first: `fleet models quantize`."""
