"""Image encoders: patches of tissue in, numbers out."""
