"""A federation in operation: runs on a schedule, what each brings the partners, and releases that must go."""
