"""Pure functions on arrays: convolution, patches, pooling."""
