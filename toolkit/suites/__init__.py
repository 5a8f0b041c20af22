"""The pixels of suites: which cases a protocol draws, and what they show."""
