"""The pager: memory that is larger than the frames it has. What is not in them is zeros, or in the swap file."""
