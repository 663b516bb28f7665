"""The engine that trains networks on patches and spots: patch store, batches, loop, resume."""
