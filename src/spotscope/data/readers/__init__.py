"""One small file a kind of source; each finds the files and says how to read them."""
