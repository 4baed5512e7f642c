"""Published results by protocol: which of them may be compared, and how they rank."""
