"""What the system is compared with: plain processes, each as lean as its library allows."""
