"""References of comparison: plain processes, each as lean as its library allows."""
