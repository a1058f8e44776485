"""Jobs on the workers of a Ray cluster: who fits where, who gets what next, who is started anew."""
