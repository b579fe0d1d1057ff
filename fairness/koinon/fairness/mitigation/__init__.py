"""What can be done about a finding, and what it costs: remedies, each a recommender around a recommender."""
