"""Studies: many runs into one folder, each stored when it is complete and resumed when it was killed."""
