"""Networks that other people trained, and what it takes to run them as they were trained."""
