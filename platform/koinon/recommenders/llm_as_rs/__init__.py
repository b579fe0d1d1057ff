"""Language models as recommenders: what they are asked are likelihoods and choices, never free text."""
