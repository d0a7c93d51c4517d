"""The servers: policy on top of libexo, programs like any other. Each is five files of the same shape."""
