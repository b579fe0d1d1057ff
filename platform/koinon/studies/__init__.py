"""Studies: whole experiments over several partners, and the reports that say what came of them."""
