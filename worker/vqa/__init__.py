"""Questions about pictures, and captions: which graph does what, words, decoding step by step, and the way through."""
