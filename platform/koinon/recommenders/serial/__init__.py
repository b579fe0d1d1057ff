"""Language model first, recommender after: what a tuned language model makes of texts, every recommender may read."""
