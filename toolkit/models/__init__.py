"""The systems that are trained here, and networks that other people trained, run as they were trained."""
