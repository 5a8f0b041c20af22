"""What a build, a run or a report shows, and those who show it: FiftyOne's App, and a page of HTML."""
